from __future__ import annotations

import shutil

import pytest
import torch
from benchmarks.allocations import Allocations
from torch._dynamo.utils import counters

from groundup.models import DecoderConfig, build_model
from groundup.parallel import shard
from groundup.parallel.compile import uncompiled
from groundup.parallel.recompute import Recompute

CONFIG = DecoderConfig(context_length=16, num_layers=3, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=24)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", [False, True])
def test_layers_share_one_graph_and_give_the_eager_losses(recompute: bool) -> None:
    torch._dynamo.reset()
    counters.clear()
    model = build_model(CONFIG, 31)
    model.initialise(0)
    tokens = torch.randint(0, 31, (2, 16), generator=torch.Generator().manual_seed(0))
    segments = (torch.arange(16) // 7).int().expand(2, 16)

    def losses() -> torch.Tensor:
        sums, _ = model(tokens, targets=tokens, segments=segments, row_weights=torch.ones(2))
        return sums

    wanted = losses()
    gradients = torch.autograd.grad(wanted.sum(), list(model.parameters()))
    shard.apply(model, mesh=None, compute_dtype=torch.float32, recompute=recompute, compile_blocks=True)
    for _ in range(2):
        compiled = losses()
        torch.testing.assert_close(compiled, wanted)
        for mine, other in zip(torch.autograd.grad(compiled.sum(), list(model.parameters())), gradients):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 3, "one graph for all blocks, one for the last norm, one for a chunk of the loss"
    with uncompiled(), torch.no_grad():
        model(tokens[:1, :5], targets=tokens[:1, :5])
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_keep_what_they_may() -> None:
    """Selectively, and within budgets, one after the other in one process: no graph of another is taken again."""
    config = CONFIG.model_copy(update={"context_length": 256, "hidden_size": 64, "ffn_size": 256, "num_kv_heads": 2})
    tokens = torch.randint(0, 31, (8, 256), generator=torch.Generator().manual_seed(0))
    peaks, losses, gradients = {}, {}, {}
    choices = {
        "nothing": Recompute(),
        "full": Recompute("full"),
        "selective": Recompute("selective"),
        "all": Recompute(budget=1.0),
        "half": Recompute(budget=0.5),
        "none": Recompute(budget=0.0),
    }
    for name, how in choices.items():
        torch._dynamo.reset()
        model = build_model(config, 31)
        model.initialise(0)
        shard.apply(model, mesh=None, compute_dtype=torch.float32, recompute=how, compile_blocks=True)
        model(tokens, targets=tokens)[0].sum().backward()  # compiles
        model.zero_grad()
        with Allocations() as seen:
            sums, _ = model(tokens, targets=tokens)
            sums.sum().backward()
        peaks[name], losses[name] = seen.peak(), sums.detach()
        gradients[name] = [p.grad for p in model.parameters() if p.grad is not None]
        with uncompiled(), torch.no_grad():
            model(tokens[:1, :5], targets=tokens[:1, :5])
    for name in choices:
        torch.testing.assert_close(losses[name], losses["nothing"])
        for mine, other in zip(gradients[name], gradients["nothing"], strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    assert peaks["full"] < peaks["selective"] < peaks["nothing"], peaks
    assert peaks["none"] < peaks["half"] < peaks["all"], peaks
