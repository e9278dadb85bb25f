"""The decoding kernels: the numbers of the plain layers, and no influence of neighbours, calls or threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.kernels import build
from groundup.kernels.decode import DecoderShape, PackedDecoder, Room, Span, obstacle
from groundup.models import Decoder, DecoderConfig, build_model, to_huggingface
from groundup.models.rotary import YarnScaling

pytestmark = pytest.mark.skipif(build.obstacle("decode") is not None, reason=f"{build.obstacle('decode')}")

VOCAB_SIZE, TIME = 77, 70
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"hidden_size": 32, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 48},
    "odd sizes": {"hidden_size": 33, "num_heads": 3, "num_kv_heads": 1, "head_dim": 10, "ffn_size": 51},
    "tied, no norm of heads": {
        "hidden_size": 64,
        "num_heads": 2,
        "num_kv_heads": 2,
        "ffn_size": 96,
        "tied": True,
        "qk_norm": False,
    },
    "wide heads": {"hidden_size": 48, "num_heads": 2, "num_kv_heads": 1, "head_dim": 80, "ffn_size": 33},
    "many heads a key": {"hidden_size": 96, "num_heads": 12, "num_kv_heads": 1, "head_dim": 8, "ffn_size": 64},
    "embedding norm": {"hidden_size": 32, "num_heads": 2, "num_kv_heads": 2, "ffn_size": 64, "embedding_norm": True},
    "stretched positions": {
        "hidden_size": 32,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ffn_size": 48,
        "rope_scaling": YarnScaling(factor=8.0, original_context_length=16),
    },
}


def make(name: str) -> Decoder:
    model = build_model(DecoderConfig(context_length=TIME, num_layers=2, **SHAPES[name]), VOCAB_SIZE)
    model.initialise(seed=2)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if model.role(key) == "vector":
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
            elif model.role(key) in ("head", "embedding"):
                parameter.mul_(20.0)
    return model.requires_grad_(False)


def packed(model: Decoder, dtype: torch.dtype) -> PackedDecoder:
    config = model.config
    sizes = (config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads, config.head_size)
    shape = DecoderShape(
        *sizes, config.ffn_size, VOCAB_SIZE, config.norm_epsilon, qk_norm=config.qk_norm, tied=config.tied
    )
    tensors = to_huggingface(config, dict(model.named_parameters()))
    assert obstacle(shape, tensors, dtype) is None
    return PackedDecoder(shape, tensors, dtype)


def room(model: Decoder, dtype: torch.dtype = torch.bfloat16, slots: int = 4, max_rows: int = 4 * TIME) -> Room:
    cosines, sines = model.rotation(torch.arange(TIME)[None], TIME)
    return packed(model, dtype).room(slots, TIME, max_rows, cosines[0, 0], sines[0, 0])


def random_tokens(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB_SIZE, (rows, TIME), generator=torch.Generator().manual_seed(seed))


def in_pieces(place: Room, slot: int, tokens: list[int], lengths: list[int]) -> torch.Tensor:
    """Logits behind each piece, when `tokens` are given to one slot in pieces of these lengths."""
    found, start = [], 0
    for length in lengths:
        found.append(place.advance([Span(slot, start, tokens[start : start + length])])[0].clone())
        start += length
    return torch.stack(found)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_float32_is_that_of_the_plain_layers(name: str) -> None:
    model, tokens = make(name), random_tokens(3)
    place, expected = room(model, torch.float32), model(tokens)
    ends = [40, 33, 1]
    for step in (0, 1, 9, 1):
        starts = [0, 0, 0] if step == 0 else ends
        ends = [end + step for end in ends]
        spans = [Span(slot, starts[i], tokens[i, starts[i] : ends[i]].tolist()) for i, slot in enumerate((2, 0, 3))]
        wanted = torch.stack([expected[i, end - 1] for i, end in enumerate(ends)])
        torch.testing.assert_close(place.advance(spans), wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_layers(name: str) -> None:
    model, tokens = make(name), random_tokens(4)
    exact = model(tokens)[:, -1]
    model.set_compute_dtype(torch.bfloat16)
    plain = model(tokens)[:, -1].float()
    found = room(model).advance([Span(i, 0, row) for i, row in enumerate(tokens.tolist())])
    error, plain_error = ((each - exact).square().mean().sqrt() for each in (found, plain))
    assert 0 < error < 1.5 * plain_error


@torch.no_grad()
def test_weights_that_bfloat16_holds_are_kept_in_it_and_stay_exact() -> None:
    model, tokens = make("grouped"), random_tokens(1)
    assert packed(model, torch.float32).weight_bits == 32
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    place = room(model, torch.float32)
    assert place.decoder.weight_bits == 16
    found = in_pieces(place, 0, tokens[0].tolist(), [50, 1, 19])
    torch.testing.assert_close(found, model(tokens)[0, [49, 50, 69]], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["grouped", "odd sizes"])
@settings(max_examples=15)
@given(data=st.data())
def test_neighbours_and_pieces_change_no_bit(name: str, dtype: torch.dtype, data: st.DataObject) -> None:
    place, tokens = _place(name, dtype), random_tokens(4).tolist()
    whole = place.advance([Span(0, 0, tokens[0])])[0].clone()
    cut = data.draw(st.lists(st.integers(1, TIME - 1), unique=True, max_size=6).map(sorted), label="cuts")
    ends = [*cut, TIME]
    start = 0
    for end in ends:
        others = data.draw(st.lists(st.integers(1, 30), max_size=3), label="lengths of neighbours")
        spans = [Span(slot, 0, tokens[slot][:length]) for slot, length in enumerate(others, start=1)]
        at = data.draw(st.integers(0, len(spans)), label="place among them")
        spans.insert(at, Span(0, start, tokens[0][start:end]))
        found = place.advance(spans)[at]
        start = end
    assert torch.equal(found, whole)


_PLACES: dict[tuple[str, torch.dtype], Room] = {}


def _place(name: str, dtype: torch.dtype) -> Room:
    """A room that examples share; what earlier ones left in it must not matter."""
    if (name, dtype) not in _PLACES:
        _PLACES[name, dtype] = room(make(name), dtype)
    return _PLACES[name, dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_threads_change_no_bit(dtype: torch.dtype) -> None:
    model, tokens = make("grouped"), random_tokens(3).tolist()
    spans = [Span(slot, 0, row) for slot, row in enumerate(tokens)]
    alone = room(model, dtype).advance(spans)
    torch.set_num_threads(2)
    place = room(model, dtype)
    assert torch.equal(place.advance(spans), alone)
    torch.set_num_threads(1)
    assert torch.equal(place.advance(spans), alone), "a room keeps the number of threads that its memory is for"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("length", [1, 7, 32, 33])
def test_what_lies_in_memory_from_before_does_not_matter(dtype: torch.dtype, length: int) -> None:
    model, tokens = make("odd sizes"), random_tokens(1)[0].tolist()
    clean, used = room(model, dtype), room(model, dtype)
    for buffer in used._buffers[:2]:
        buffer.fill_(float("nan"))
    used._scratch.fill_(0xFF)
    clean._scratch.zero_()
    pieces = [length, 1, 1, 2]
    assert torch.equal(in_pieces(used, 1, tokens, pieces), in_pieces(clean, 1, tokens, pieces))


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [Span(4, 0, [1])],
        [Span(0, TIME, [1])],
        [Span(0, TIME - 1, [1, 2])],
        [Span(0, 0, [])],
        [Span(1, 0, [1]), Span(1, 1, [2])],
        [Span(0, 0, [1] * 11)],
        [Span(0, 0, [VOCAB_SIZE])],
        [Span(0, 0, [-1])],
    ],
)
def test_what_would_write_outside_is_refused(spans: list[Span]) -> None:
    place = room(make("grouped"), max_rows=10)
    with pytest.raises(ValueError, match=r"give 1 to|do not fit|ids are 0 to"):
        place.advance(spans)


def test_what_cannot_be_packed_says_why() -> None:
    model = make("grouped")
    shape = packed(model, torch.float32).shape
    tensors = to_huggingface(model.config, dict(model.named_parameters()))
    wide = DecoderShape(**{**vars(shape), "head_dim": 258})
    assert "head_dim 258" in str(obstacle(wide, tensors, torch.float32))
    assert "float64" in str(obstacle(shape, tensors, torch.float64))
    assert "other tensors" in str(obstacle(shape, {**tensors, "model.norm.bias": torch.zeros(32)}, torch.float32))
    halved = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    assert "not float32" in str(obstacle(shape, halved, torch.bfloat16))
