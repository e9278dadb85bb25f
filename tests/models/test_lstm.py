"""The LSTM: torch's own numbers, windows with carried states like the whole stream, and what it says of itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from groundup.models import LSTM, LSTMConfig, RowContext, build_model
from groundup.models.noise import row_keys

VOCAB = 32
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2e-3}
"""Products of other lengths round otherwise; the logits are about 0.1."""


def make(layers: int = 2, size: int = 16, **changes: object) -> LSTM:
    config = LSTMConfig(context_length=8, num_layers=layers, hidden_size=size, **changes)  # type: ignore[arg-type]
    model = build_model(config, VOCAB)
    model.initialise(1)
    return model


def tokens(rows: int, time: int) -> Tensor:
    return torch.randint(0, VOCAB, (rows, time), generator=torch.Generator().manual_seed(rows * time))


@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_those_of_torchs_lstm(tied: bool) -> None:
    model = make(tied=tied)
    theirs = nn.LSTM(16, 16, num_layers=2, batch_first=True)
    for index, layer in enumerate(model.layers):
        for name, value in (("weight_ih", layer.input), ("weight_hh", layer.recurrent), ("bias_ih", layer.bias)):
            getattr(theirs, f"{name}_l{index}").data.copy_(value)
        getattr(theirs, f"bias_hh_l{index}").data.zero_()
    found, _ = theirs(model.embedding.weight[tokens(3, 10)])
    matrix = model.embedding.weight if tied else model.head.weight
    torch.testing.assert_close(model(tokens(3, 10)), found @ matrix.T, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 11), max_size=3, unique=True), dtype=st.sampled_from(sorted(TOLERANCE, key=str)))
def test_windows_with_carried_states_give_what_the_stream_gives(cuts: list[int], dtype: torch.dtype) -> None:
    model, stream = make(), tokens(3, 12)
    model.set_compute_dtype(dtype)
    whole = model(stream)
    memory = model.memory(3, torch.device("cpu"))
    ends = [*sorted(cuts), 12]
    parts = [
        model(stream[:, start:end], context=RowContext(memory=memory, continues=torch.full((3,), start > 0)))
        for start, end in zip([0, *ends], ends)
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=TOLERANCE[dtype])


def test_rows_that_do_not_go_on_start_afresh() -> None:
    model, stream = make(), tokens(3, 8)
    memory = model.memory(3, torch.device("cpu"))
    model(stream, context=RowContext(memory=memory))
    after = model(stream, context=RowContext(memory=memory, continues=torch.tensor([True, False, True])))
    fresh = model(stream)
    assert torch.equal(after[1], fresh[1])
    assert not torch.allclose(after[0], fresh[0]) and not torch.allclose(after[2], fresh[2])


def test_gradients_end_at_the_window() -> None:
    model, stream = make(), tokens(2, 8)
    memory = model.memory(2, torch.device("cpu"))
    for _ in range(2):
        sums, _ = model(stream, targets=stream, context=RowContext(memory=memory, continues=torch.ones(2).bool()))
        sums.sum().backward()  # a second time through the first window's graph would raise
    assert not any(kept.requires_grad for kept in memory.values())


def test_a_spoilt_state_is_not_carried_on() -> None:
    model = make()
    memory = model.memory(1, torch.device("cpu"))
    with torch.no_grad():
        model.layers[0].bias[0] = float("nan")  # type: ignore[index]
    model(tokens(1, 8), context=RowContext(memory=memory))
    assert all(kept.isfinite().all() for kept in memory.values())


def test_dropout_is_between_the_layers_and_only_with_keys() -> None:
    model, stream = make(dropout=0.5), tokens(4, 8)
    plain = make()
    assert torch.equal(model(stream), plain(stream))
    noisy = RowContext(row_keys(1, 1, torch.arange(4)))
    assert torch.equal(model(stream, context=noisy), model(stream, context=noisy))
    assert not torch.equal(model(stream, context=noisy), plain(stream))


@given(layers=st.integers(1, 3), size=st.integers(2, 20), tied=st.booleans())
def test_the_formula_counts_the_parameters(layers: int, size: int, tied: bool) -> None:
    model = make(layers, size, tied=tied)
    assert model.config.num_parameters(VOCAB) == sum(parameter.numel() for parameter in model.parameters())


def test_roles_and_start() -> None:
    model = make(forget_bias=1.5)
    assert {name: model.role(name) for name, _ in model.named_parameters() if "layers.1" not in name} == {
        "embedding.weight": "embedding",
        "layers.0.input": "matrix",
        "layers.0.recurrent": "matrix",
        "layers.0.bias": "vector",
        "head.weight": "head",
    }
    assert model.layers[0].bias.tolist() == [0.0] * 16 + [1.5] * 16 + [0.0] * 32
    assert model.matrix_parameters() == {f"layers.{i}.{name}" for i in (0, 1) for name in ("input", "recurrent")}
