"""Context parallel on ranks that are not there: a large recipe with long rows, and what it keeps for the backward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from groundup.models import context_attention
from groundup.parallel import ParallelConfig
from groundup.parallel.fake import fake_world
from groundup.pipeline import load_recipe
from groundup.tokens import Batch
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RECIPE = Path(__file__).parents[2] / "recipes" / "decoder-7b.yaml"
LONG = 32_768
LAYERS = 1
"""Of 32, which are all alike: each is thousands of simulated operations."""


def kept_bytes(config: ParallelConfig, world_size: int, length: int) -> int:
    """Bytes that a step on one row of the recipe keeps for its backward on rank 0, gathered weights among them."""
    parallel = {f"runtime.parallel.{name}": value for name, value in config.model_dump().items()}
    words = {
        "model.context_length": length, "model.num_layers": LAYERS, "model.scaling.base_num_layers": LAYERS,
        "runtime.device": "cpu", "runtime.compile": "off", "runtime.recompute": "false", **parallel,
    }  # fmt: skip
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in words.items()])
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
        return tensor

    with fake_world(world_size, config) as mesh:
        state = build_state(
            recipe.model,
            recipe.tokenizer.vocab_size,
            recipe.pretrain,
            recipe.runtime,
            recipe.seed,
            device=torch.device("cpu"),
            mesh=mesh,
        )
        tokens = torch.zeros(1, length, dtype=torch.int64)
        places = torch.zeros_like(tokens, dtype=torch.int32)
        batch = Batch(tokens, tokens, places, places, torch.zeros(1, dtype=torch.int64))
        objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == () and state.step == 1
    return sum(seen.values())


@pytest.mark.parametrize(("way", "share"), [pytest.param("gather", 0.75, marks=pytest.mark.slow), ("ring", 0.5)])
def test_two_ranks_keep_half_each_of_every_position(way: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that gather also have a copy each of all keys and values."""
    monkeypatch.setattr(context_attention, "QUERIES", 4096)  # fewer operations to simulate
    monkeypatch.setattr(context_attention, "KEYS", 8192)
    # The difference of two lengths leaves out weights, of which all are the same.
    alone, shared = (
        kept_bytes(config, ranks, LONG) - kept_bytes(config, ranks, LONG // 2)
        for config, ranks in ((ParallelConfig(), 4), (ParallelConfig(context=2, context_attention=way), 8))
    )
    assert shared / alone == pytest.approx(share, abs=0.01)
