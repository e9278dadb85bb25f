from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from groundup import config as configs
from groundup.errors import RecipeError
from groundup.models import IGNORE, Decoder, DecoderConfig, KeyValueCache, build_model

VOCAB = 37
SMALL = {
    "context_length": 32,
    "num_layers": 2,
    "hidden_size": 24,
    "num_heads": 3,
    "num_kv_heads": 1,
    "ffn_size": 40,
    "embedding_init_std": 0.5,
    "head_init_std": 0.5,
}


def make(**changes: object) -> Decoder:
    model = build_model(DecoderConfig(**{**SMALL, **changes}), VOCAB)  # type: ignore[arg-type]
    model.initialise(0)
    return model


def empty_cache(model: Decoder, rows: int, max_time: int) -> KeyValueCache:
    """A cache that holds NaN wherever nothing was written."""
    cache = model.new_cache(rows, max_time)
    for kept in (*cache.keys, *cache.values):
        kept.fill_(float("nan"))
    return cache


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 25}, ("hidden_size 25", "num_heads 3", "divisible")),
        ({"num_heads": 4, "num_kv_heads": 3}, ("num_heads 4", "num_kv_heads 3", "multiple")),
        ({"head_dim": 7}, ("head_dim 7", "odd", "even")),
        ({"hidden_size": 27}, ("head_dim 9", "odd", "even")),
        ({"tied": True, "embedding_norm": True}, ("embedding_norm", "tied: false")),
        ({"positions": "learned", "rope_scaling": {"kind": "linear", "factor": 2.0}}, ("rope_scaling", "learned")),
        ({"full_attention_layers": [2], "sliding_window": 4}, ("full_attention_layers [2]", "0 to 1")),
        ({"num_layer": 3}, ("num_layer", "num_layers")),
        ({"num_layers": 0}, ("num_layers", "1", "0")),
    ],
)
def test_a_config_that_cannot_be_built_says_why(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        configs.build(DecoderConfig, {**SMALL, **changes}, "recipe")
    text = " ".join([caught.value.message, *caught.value.details])
    assert all(word in text for word in words), text


@settings(max_examples=20, deadline=None)
@given(
    num_layers=st.integers(1, 3),
    head_dim=st.sampled_from([None, 2, 10]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.integers(1, 4),
    ffn_size=st.integers(1, 50),
    qk_norm=st.booleans(),
    tied=st.booleans(),
)
def test_the_formula_counts_the_parameters(
    num_layers: int,
    head_dim: int | None,
    kv_heads: int,
    group: int,
    size: int,
    ffn_size: int,
    qk_norm: bool,
    tied: bool,
) -> None:
    config = DecoderConfig(
        context_length=8,
        num_layers=num_layers,
        hidden_size=2 * kv_heads * group * size,
        num_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_size=ffn_size,
        qk_norm=qk_norm,
        tied=tied,
    )
    with torch.device("meta"):
        model = build_model(config, VOCAB)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters(VOCAB)
    assert not list(model.buffers())


def test_the_size_of_a_giant_costs_nothing() -> None:
    giant = DecoderConfig(
        context_length=8192,
        num_layers=126,
        hidden_size=16384,
        num_heads=128,
        num_kv_heads=8,
        ffn_size=53248,
        qk_norm=False,
    )
    assert giant.num_parameters(128_256) == 405_853_388_800
    assert giant.cache_bytes(rows=1, time=8192) == 2 * 126 * 8 * 128 * 8192 * 2


def test_the_flop_formula_is_what_torch_counts() -> None:
    model = make()
    model.set_attention("blocks")
    tokens = torch.randint(0, VOCAB, (2, 32))
    with FlopCounterMode(display=False) as counter:
        sums, _ = model(tokens, targets=tokens, row_weights=torch.ones(2))
        sums.sum().backward()
    # At this length there is one block, so the masked half of the attention is computed as well.
    masked_half = 6 * 2 * 24 * 32
    assert counter.get_total_flops() == (model.config.flops_per_token(VOCAB) + masked_half) * 64


def packed(model: Decoder, lengths: list[int], kind: str) -> tuple[torch.Tensor, ...]:
    """One row of several documents -> (per-document inputs, loss gradients and losses of the packed row)."""
    model.set_attention(kind)  # type: ignore[arg-type]
    time = sum(lengths)
    generator = torch.Generator().manual_seed(time)
    tokens = torch.randint(0, VOCAB, (1, time), generator=generator)
    targets = torch.randint(0, VOCAB, (1, time), generator=generator)
    targets[:, 1] = IGNORE
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None].int()
    positions = torch.cat([torch.arange(length) for length in lengths])[None].int()
    return tokens, targets, segments, positions


@pytest.mark.parametrize("kind", ["blocks", "sdpa"])
@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=5))
def test_packed_documents_give_the_losses_and_gradients_of_each_alone(kind: str, lengths: list[int]) -> None:
    model = make(embedding_norm=True)
    tokens, targets, segments, positions = packed(model, lengths, kind)
    together, count = model(tokens, targets=targets, segments=segments, positions=positions)
    gradients = torch.autograd.grad(together.sum(), list(model.parameters()))
    alone = torch.zeros(())
    for document_tokens, document_targets in zip(tokens.split(lengths, 1), targets.split(lengths, 1)):
        alone = alone + model(document_tokens, targets=document_targets)[0].sum()
    assert count.item() == sum(lengths) - 1
    torch.testing.assert_close(together.sum(), alone, atol=1e-4, rtol=1e-5)
    for mine, other in zip(gradients, torch.autograd.grad(alone, list(model.parameters()))):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["blocks", "sdpa"])
def test_the_future_and_other_documents_change_nothing(kind: str) -> None:
    model = make()
    tokens, _, segments, positions = packed(model, [9, 12, 11], kind)
    before = model(tokens, segments=segments, positions=positions)
    changed = tokens.clone()
    changed[:, 15:] = (changed[:, 15:] + 1) % VOCAB
    changed[:, :9] = (changed[:, :9] + 5) % VOCAB
    after = model(changed, segments=segments, positions=positions)
    assert (before[:, 9:15] == after[:, 9:15]).all()
    assert (before[:, 15] != after[:, 15]).any() and (before[:, 8] != after[:, 8]).any()


@settings(max_examples=8, deadline=None)
@given(first=st.integers(1, 12), second=st.integers(0, 8), single=st.integers(0, 8))
def test_prefill_and_decode_give_the_logits_of_the_full_forward(first: int, second: int, single: int) -> None:
    model = make()
    time = first + second + single
    tokens = torch.randint(0, VOCAB, (2, time), generator=torch.Generator().manual_seed(time))
    cache = empty_cache(model, 2, time + 3)
    with torch.no_grad():
        full = model(tokens)
        torch.testing.assert_close(model.prefill(tokens[:, :first], cache), full[:, first - 1], atol=1e-5, rtol=1e-5)
        if second:
            logits = model.prefill(tokens[:, first : first + second], cache)
            torch.testing.assert_close(logits, full[:, first + second - 1], atol=1e-5, rtol=1e-5)
        for at in range(first + second, time):
            torch.testing.assert_close(model.decode(tokens[:, at : at + 1], cache), full[:, at], atol=1e-5, rtol=1e-5)
    assert cache.length == time


def test_a_full_cache_is_refused() -> None:
    model = make()
    cache = empty_cache(model, 1, 4)
    with pytest.raises(ValueError, match="5 tokens do not fit a cache of 4"):
        model.prefill(torch.zeros(1, 5, dtype=torch.int64), cache)


def test_the_start_depends_on_seed_and_name_only() -> None:
    one, same, other = make(), make(num_layers=3), make()
    other.initialise(1)
    big = dict(same.named_parameters())
    for name, parameter in one.named_parameters():
        assert (parameter == big[name]).all()
    assert (one.embedding.weight != other.embedding.weight).any()
    assert (one.layers[0].ffn.gate.weight != one.layers[1].ffn.gate.weight).any()  # type: ignore[union-attr]


def test_materialised_from_meta_it_starts_alike() -> None:
    with torch.device("meta"):
        model = build_model(DecoderConfig(**SMALL), VOCAB)  # type: ignore[arg-type]
    model.to_empty(device="cpu")
    model.initialise(0)
    for mine, other in zip(model.parameters(), make().parameters()):
        assert (mine == other).all()


def test_zero_init_starts_every_block_as_the_identity() -> None:
    model = make(zero_init=True)
    x = torch.randn(1, 5, 24)
    from_nothing = model.blocks()[0](x, (torch.ones(1, 1, 5, 4), torch.zeros(1, 1, 5, 4)), None)
    assert (from_nothing == x).all()


def test_roles_of_parameters() -> None:
    model = make()
    roles = {name: model.role(name) for name, _ in model.named_parameters()}
    assert roles["embedding.weight"] == "embedding" and roles["head.weight"] == "head"
    matrices = model.matrix_parameters()
    assert len(matrices) == 7 * 2
    for name, parameter in model.named_parameters():
        assert (roles[name] == "vector") == (parameter.ndim == 1)
        assert (name in matrices) == (roles[name] == "matrix")


def test_compute_in_bfloat16_keeps_float32_masters_and_gradients() -> None:
    model = make()
    model.set_compute_dtype(torch.bfloat16)
    tokens = torch.randint(0, VOCAB, (2, 16))
    sums, counts = model(tokens, targets=tokens)
    sums.sum().backward()
    assert sums.dtype == torch.float32 and counts.dtype == torch.int64
    assert all(p.dtype == torch.float32 and p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())
    model.set_compute_dtype(torch.float32)
    torch.testing.assert_close(sums, model(tokens, targets=tokens)[0], rtol=0.02, atol=0.1)


def test_what_has_nothing_to_compile_is_not_compiled() -> None:
    for placement, norms in (("before", 1), ("after", 0)):
        units = make(norm="layer", norm_placement=placement).compile_units()
        assert len(units) == 2 + 1 + norms, "blocks, loss, and the last norm where there is one"
        assert not any(isinstance(unit, torch.nn.Identity) for unit in units)
