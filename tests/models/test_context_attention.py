"""Parts of rows on several ranks are the whole rows: attention, whole models, their gradients, what they drop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from groundup.errors import RecipeError
from groundup.models import (
    DecoderConfig,
    LoRAConfig,
    LSTMConfig,
    Network,
    RowContext,
    RowPart,
    build_model,
    context_attention,
    tuning,
)
from groundup.models import attention as whole_attention
from groundup.models.noise import INPUT, dropout, layer_noise, row_keys
from groundup.models.rotary import DynamicScaling
from groundup.models.row_part import ranges_of
from groundup.parallel.recompute import recompute_blocks
from tests.models.lines import ThreadLine, together

LENGTH, ROWS, VOCAB = 48, 2, 31
SHAPE: dict[str, Any] = {
    "context_length": LENGTH, "num_layers": 2, "hidden_size": 16, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 24,
    "embedding_init_std": 0.5, "head_init_std": 0.5,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "windows": {"sliding_window": 11, "full_attention_layers": (1,), "num_kv_heads": 4},
    "learned": {"positions": "learned", "norm": "layer", "attention_bias": "all"},
    "stretched": {"rope_scaling": DynamicScaling(factor=2.0), "tied": True},
    "noisy": {
        "sliding_window": 20,
        "embedding_dropout": 0.1,
        "attention_dropout": 0.3,
        "residual_dropout": 0.1,
        "stochastic_depth": 0.2,
    },
}


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a row of a test has several, with borders that are not those of the parts."""
    monkeypatch.setattr(context_attention, "QUERIES", 5)
    monkeypatch.setattr(context_attention, "KEYS", 7)
    monkeypatch.setattr(whole_attention, "MIN_BLOCK_QUERIES", 13)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def documents() -> Tensor:
    """Segments of two rows, one with long and one with short documents."""
    ends = torch.tensor([[17, 40, LENGTH, LENGTH], [3, 4, 29, LENGTH]])
    return (torch.arange(LENGTH)[None, :, None] >= ends[:, None]).sum(-1).to(torch.int32)


@given(chunk=st.integers(1, 9), size=st.integers(1, 6))
def test_every_position_has_one_rank_and_all_have_the_same_to_do(chunk: int, size: int) -> None:
    length = 2 * size * chunk
    positions = [[p for start, end in ranges_of(length, r, size) for p in range(start, end)] for r in range(size)]
    assert sorted(p for mine in positions for p in mine) == list(range(length))
    assert len({sum(mine) for mine in positions}) == 1, "as many pairs of query and key"


def test_rows_that_cannot_be_cut_are_refused() -> None:
    line = together(2, "ring", lambda line: line)[0]
    with pytest.raises(ValueError, match="rows of 6 positions cannot be split over 2 ranks; use a multiple of 4"):
        RowPart.of(line, torch.zeros(1, 6, dtype=torch.int32))
    assert RowPart.of(None, torch.zeros(1, 6, dtype=torch.int32)) is None
    with torch.device("meta"):
        lstm = LSTMConfig(context_length=8, num_layers=1, hidden_size=8).build(VOCAB)
    with pytest.raises(RecipeError, match=r"context: 2: model\.kind: lstm reads its rows whole; use context: 1"):
        lstm.set_line(line)


def test_a_part_drops_what_the_row_drops_there() -> None:
    keys, x = row_keys(1, 2, torch.arange(ROWS)), random(ROWS, LENGTH, 5)
    columns = torch.tensor([40, 3, 4, 17])
    expected = dropout(x, keys, INPUT, 0.5)[:, columns]
    assert torch.equal(dropout(x[:, columns], keys, INPUT, 0.5, columns), expected)
    assert (expected == 0).any() and (expected != 0).any()


@pytest.mark.parametrize("way", ["gather", "ring"])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(("window", "rate"), [(None, 0.0), (9, 0.0), (None, 0.4), (14, 0.4)])
@pytest.mark.parametrize("packed", [True, False])
def test_attention_of_parts_is_that_of_the_rows(
    way: Any, size: int, window: int | None, rate: float, packed: bool
) -> None:
    segments = documents() if packed else None
    inputs = [random(ROWS, heads, LENGTH, 8, seed=heads + at) for at, heads in enumerate((4, 2, 2))]
    wanted = random(ROWS, 4, LENGTH, 8, seed=9)
    noise = layer_noise(row_keys(1, 2, torch.arange(ROWS)), 0, 2, 0.0)
    assert noise is not None
    whole = [each.clone().requires_grad_() for each in inputs]
    expected = whole_attention.attend(*whole, segments, "sdpa", window, noise, rate)
    expected.backward(wanted)

    def of_rank(line: ThreadLine) -> tuple[RowPart, list[Tensor]]:
        part = RowPart.of(line, documents())
        assert part is not None
        part = RowPart(line, part.length, part.columns, segments)
        mine = [each[:, :, part.columns].clone().requires_grad_() for each in inputs]
        blocks = whole_attention.query_blocks(LENGTH, whole_attention.number_of_blocks(LENGTH))
        dropped = context_attention.WeightNoise(noise.keys, rate, blocks, window) if rate else None
        found = context_attention.part_attention(*mine, part, window, dropped)
        found.backward(wanted[:, :, part.columns])
        return part, [found.detach(), *(each.grad for each in mine if each.grad is not None)]

    for part, found in together(size, way, of_rank):
        for mine, all_of_it in zip(found, [expected.detach(), *(each.grad for each in whole)], strict=True):
            assert all_of_it is not None
            torch.testing.assert_close(mine, all_of_it[:, :, part.columns], rtol=1e-4, atol=2e-6)


def model(name: str, **changes: Any) -> Network:
    made = build_model(DecoderConfig(**{**SHAPE, **MODELS[name], **changes}), VOCAB)
    made.initialise(1)
    return made


def losses_and_gradients(made: Network, context: RowContext, columns: Tensor, wait: bool = False) -> dict[str, Tensor]:
    """Sums of the losses of `columns` of two rows, one of which begins with targets, and all gradients."""
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(3))
    targets = tokens.roll(-1, 1).clone()
    targets[0, 20:] = -100
    segments = documents()
    places = torch.arange(LENGTH).expand(ROWS, LENGTH)
    places = places - torch.where(segments[:, :, None] > segments[:, None, :], 1, 0).sum(-1)
    weights = torch.tensor([0.7, 0.2])
    sums, counts = made(
        tokens[:, columns],
        targets=targets[:, columns],
        segments=segments[:, columns],
        positions=places[:, columns],
        row_weights=weights,
        context=context,
    )
    (sums * weights).sum().backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return {"sums": sums.detach(), "counts": counts, **gradients}


def check_model(made: Network, size: int, way: Any) -> None:
    keys = row_keys(1, 2, torch.arange(ROWS))
    whole = losses_and_gradients(copy.deepcopy(made), RowContext(keys), torch.arange(LENGTH))
    copies = [copy.deepcopy(made) for _ in range(size)]

    def of_rank(line: ThreadLine) -> dict[str, Tensor]:
        part = RowPart.of(line, documents())
        assert part is not None
        return losses_and_gradients(copies[line.rank], RowContext(keys, part=part), part.columns)

    found = together(size, way, of_rank)
    for name, expected in whole.items():
        summed = torch.stack([each[name] for each in found]).sum(0)
        torch.testing.assert_close(
            summed, expected, rtol=1e-4, atol=1e-6 + 1e-5 * float(expected.abs().max()), msg=name
        )


@pytest.mark.parametrize("way", ["gather", "ring"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_from_parts_what_it_learns_from_rows(name: str, way: Any) -> None:
    made = model(name)
    if name == "noisy":
        recompute_blocks(made.blocks())
    check_model(made, 2 if way == "gather" else 3, way)


def test_adapters_drop_the_same_of_parts() -> None:
    made = model("grouped")
    tuning.attach(made, LoRAConfig(rank=2, dropout=0.4), None)
    tuning.begin(made, LoRAConfig(rank=2, dropout=0.4), 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.01 * random(*parameter.shape)
    check_model(made, 2, "ring")
