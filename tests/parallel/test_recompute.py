"""Recomputation changes what is kept, never what is computed: on every kind of model, by kernels and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.allocations import Allocations
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.errors import RecipeError
from groundup.kernels import ops
from groundup.models import DecoderConfig, EncoderConfig, LSTMConfig, Network, NetworkConfig, RowContext, build_model
from groundup.models.noise import row_keys
from groundup.parallel import shard
from groundup.parallel.fake import fake_world
from groundup.parallel.recompute import PRODUCTS, Recompute, recompute_blocks

TIME, ROWS, VOCAB = 64, 8, 31
SHAPE: dict[str, Any] = {"context_length": TIME, "num_layers": 3, "hidden_size": 64, "num_heads": 4, "ffn_size": 160}
NOISE = {"residual_dropout": 0.1, "stochastic_depth": 0.2}
MODELS: dict[str, tuple[NetworkConfig, torch.dtype]] = {
    "decoder": (DecoderConfig(**SHAPE, num_kv_heads=2, **NOISE), torch.float32),
    "decoder by kernels": (DecoderConfig(**SHAPE, num_kv_heads=2, residual_dropout=0.1), torch.bfloat16),
    "encoder": (EncoderConfig(kind="encoder", **SHAPE, predicted_share=0.3), torch.float32),
    "encoder by kernels": (EncoderConfig(kind="encoder", **SHAPE, predicted_share=0.3), torch.bfloat16),
    "lstm": (LSTMConfig(context_length=TIME, num_layers=3, hidden_size=64, dropout=0.1), torch.float32),
}
CHOICES = {
    "nothing": Recompute(),
    "full": Recompute("full"),
    "selective": Recompute("selective"),
    "full, every 2nd": Recompute("full", 2),
    "selective, every 2nd": Recompute("selective", 2),
}


WORK = PRODUCTS | {"aten::mkldnn_rnn_layer"}


class Products(TorchDispatchMode):
    """Counts matrix products, and layers of an LSTM, which are one operator each."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operator: Any, types: Any, inputs: Any = (), named: Any = None) -> Any:
        self.total += operator.name() in WORK
        return operator(*inputs, **(named or {}))


def made(name: str, how: Recompute | bool, **changes: Any) -> Network:
    config, dtype = MODELS[name]
    model = build_model(config, VOCAB)
    shard.apply(model, mesh=None, compute_dtype=dtype, recompute=how, **changes)
    model.set_kernels(name.endswith("by kernels"))
    model.initialise(0)
    return model


def losses(model: Network) -> torch.Tensor:
    tokens = torch.randint(0, VOCAB, (ROWS, TIME), generator=torch.Generator().manual_seed(0))
    segments = (torch.arange(TIME, dtype=torch.int32) // 20).expand(ROWS, TIME)
    targets = tokens.masked_fill(torch.arange(TIME) % 4 > 0, -100)
    context = RowContext(row_keys(1, 2, torch.arange(ROWS)))
    sums: torch.Tensor = model(tokens, targets=targets, segments=segments, context=context)[0]
    return sums.sum()


@pytest.mark.parametrize("name", MODELS)
def test_only_memory_and_work_change(name: str) -> None:
    if name.endswith("by kernels") and not ops.usable():
        pytest.skip(f"the kernels do not run here: {ops.why_not()}")
    found, peaks, again = {}, {}, {}
    for choice, how in CHOICES.items():
        model = made(name, how)
        names = [each for each, _ in model.named_parameters()]
        with Allocations() as seen:
            loss = losses(model)
            with Products() as products:
                loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found[choice], peaks[choice], again[choice] = (loss, names, gradients), seen.peak(), products.total
    loss, names, gradients = found["nothing"]
    for choice, (same_loss, same_names, same_gradients) in found.items():
        assert same_names == names and torch.equal(same_loss, loss), choice
        pairs = list(zip(gradients, same_gradients, strict=True))
        assert all(one is other is None or torch.equal(one, other) for one, other in pairs), choice  # type: ignore[arg-type]
    assert peaks["full"] < 0.75 * peaks["nothing"], peaks
    assert peaks["full"] < peaks["full, every 2nd"] < peaks["nothing"], peaks
    assert peaks["selective"] < peaks["selective, every 2nd"] < peaks["nothing"], peaks
    assert again["nothing"] < again["full, every 2nd"] < again["full"], again
    if name == "lstm":  # of whose layer nothing can be kept by itself
        assert again["selective"] == again["full"] and peaks["selective"] == pytest.approx(peaks["full"], rel=0.02)
    else:
        assert again["nothing"] < again["selective"] < again["full"], again
        assert peaks["full"] < peaks["selective"], peaks


def test_reading_without_gradients_keeps_nothing() -> None:
    for how in (Recompute("full"), Recompute("selective")):
        model = made("decoder", how)
        with torch.no_grad(), Products() as products:
            losses(model)
        with torch.no_grad(), Products() as plain:
            losses(made("decoder", False))
        assert products.total == plain.total > 0


def test_a_selective_step_runs_on_ranks_that_are_not_there() -> None:
    config, dtype = MODELS["decoder"]
    with fake_world(8) as mesh:
        with torch.device("meta"):
            model = build_model(config, VOCAB)
        shard.apply(model, mesh=mesh, compute_dtype=dtype, recompute=Recompute("selective", 2), offload=True)
        model.to_empty(device="cpu")
        model.initialise(0)
        for _ in range(2):
            losses(model).backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def test_only_compiled_blocks_have_a_budget() -> None:
    with pytest.raises(RecipeError, match=r"recompute_budget: torch\.compile does not compile the blocks") as caught:
        made("decoder", Recompute(budget=0.5))
    assert caught.value.exit_code == 2
    with pytest.raises(RecipeError, match="does not compile the blocks of this model"):
        made("lstm", Recompute(budget=0.5), compile_blocks=True)


def test_true_is_everything() -> None:
    assert Recompute.of(True) == Recompute("full") and Recompute.of(False) == Recompute()
    blocks = [torch.nn.Linear(2, 2) for _ in range(5)]
    plain = [block.forward.__name__ for block in blocks]
    recompute_blocks(blocks, "selective", 2)
    changed = [block.forward.__name__ != before for block, before in zip(blocks, plain)]
    assert changed == [True, False, True, False, True]
