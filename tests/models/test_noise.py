"""Dropout and stochastic depth: the stated share, nothing in use, and the same whatever the place or division."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.kernels import ops
from groundup.models import DecoderConfig, RowContext, build_model
from groundup.models.attention import attend
from groundup.models.noise import (
    FFN_BRANCH,
    INPUT,
    NoiseConfig,
    dropout,
    kept,
    layer_noise,
    residual_branch,
    row_keys,
)
from groundup.parallel.recompute import recompute_blocks

NUMBERS = torch.arange(6)
EVERYTHING = {"embedding_dropout": 0.1, "attention_dropout": 0.2, "residual_dropout": 0.1, "stochastic_depth": 0.4}


def keys(step: int = 3, seed: int = 1) -> torch.Tensor:
    return row_keys(seed, step, NUMBERS)


@settings(max_examples=30)
@given(rate=st.floats(0.01, 0.95), seed=st.integers(0, 2**40), step=st.integers(0, 2**40))
def test_the_stated_share_is_dropped_and_the_mean_stays(rate: float, seed: int, step: int) -> None:
    dropped = dropout(torch.ones(6, 8000), row_keys(seed, step, NUMBERS), INPUT, rate)
    share = (dropped == 0).float().mean(1)
    tolerance = 5 * (rate * (1 - rate) / 8000) ** 0.5
    assert (share - rate).abs().max() < tolerance
    assert torch.allclose(dropped[dropped != 0], torch.tensor(1 / (1 - rate)))


def test_rows_steps_seeds_layers_and_places_drop_independently() -> None:
    size = torch.Size((4000,))
    base = kept(keys(), INPUT, size, 0.5)
    others = [kept(keys(step=4), INPUT, size, 0.5), kept(keys(seed=2), INPUT, size, 0.5), kept(keys(), 2, size, 0.5)]
    others += [kept(keys(seed=1 + 2**32), INPUT, size, 0.5), kept(keys(step=3 + 2**32), INPUT, size, 0.5)]
    for layer in (0, 1):
        noise = layer_noise(keys(), layer, 2, 0.0)
        assert noise is not None
        others.append(kept(noise.keys, INPUT, size, 0.5))
    masks = [*base, *(mask for other in others for mask in other)]
    matrix = torch.stack(masks).float() * 2 - 1
    correlations = matrix @ matrix.T / 4000 - torch.eye(len(masks))
    assert correlations.abs().max() < 0.09  # 5.7 standard deviations
    neighbours = (matrix[:, 1:] * matrix[:, :-1]).mean(1)
    assert neighbours.abs().max() < 0.09


@given(first=st.integers(0, 5))
def test_a_rows_key_does_not_depend_on_its_neighbours(first: int) -> None:
    assert torch.equal(row_keys(1, 3, NUMBERS[first:]), keys()[first:])


def model(**noise: float) -> torch.nn.Module:
    config = DecoderConfig(
        context_length=8, num_layers=3, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=32, **noise
    )
    made = build_model(config, vocab_size=20)
    made.initialise(1)
    return made


def test_without_keys_nothing_is_dropped() -> None:
    tokens = torch.randint(0, 20, (6, 8))
    plain, noisy = model(), model(**EVERYTHING)
    assert torch.equal(plain(tokens), noisy(tokens))
    assert torch.equal(plain(tokens), plain(tokens, context=RowContext(keys())))


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_kind_changes_the_answer_in_its_own_step_only(name: str) -> None:
    tokens, noisy = torch.randint(0, 20, (6, 8)), model(**{name: 0.5})
    once, again = (noisy(tokens, context=RowContext(keys())) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, noisy(tokens))
    assert not torch.equal(once, noisy(tokens, context=RowContext(keys(step=4))))


def test_a_row_drops_the_same_alone_and_among_others() -> None:
    tokens, noisy = torch.randint(0, 20, (6, 8)), model(**EVERYTHING)
    together = noisy(tokens, context=RowContext(keys()))
    for row in range(6):
        alone = noisy(tokens[row : row + 1], context=RowContext(keys()[row : row + 1]))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)


def test_recomputed_blocks_have_the_same_gradients() -> None:
    tokens, gradients = torch.randint(0, 20, (6, 8)), []
    for kind in (None, "full", "selective"):
        noisy = model(**EVERYTHING)
        if kind is not None:
            recompute_blocks(noisy.blocks(), kind)  # type: ignore[operator]
        sums, _ = noisy(tokens, targets=tokens, context=RowContext(keys()))
        sums.sum().backward()
        gradients.append([parameter.grad for parameter in noisy.parameters()])
    assert all(torch.equal(one, other) and torch.equal(one, third) for one, other, third in zip(*gradients))


def test_attention_weights_are_dropped_and_scaled() -> None:
    """With values that are all one, what comes out is the share of the weights that is left, made up for."""
    query, key = torch.randn(6, 2, 40, 8), torch.randn(6, 1, 40, 8)
    noise = layer_noise(keys(), 0, 1, 0.0)
    mixed = attend(query, key, torch.ones(6, 1, 40, 8), None, noise=noise, rate=0.3)
    assert 0.9 < mixed.mean() < 1.1 and mixed.std() > 0.1


def test_stochastic_depth_skips_whole_rows_the_deeper_the_more() -> None:
    config, many = NoiseConfig(stochastic_depth=0.6), row_keys(1, 1, torch.arange(4000))
    for layer, rate in ((0, 0.2), (2, 0.6)):
        branch = residual_branch(torch.ones(4000, 5), layer_noise(many, layer, 3, 0.6), FFN_BRANCH, config)
        skipped = (branch == 0).all(1)
        assert ((branch == 0).any(1) == skipped).all()
        assert abs(float(skipped.float().mean()) - rate) < 0.04
        assert torch.allclose(branch[~skipped], torch.tensor(1 / (1 - rate)))


def test_parts_drop_what_the_whole_drops() -> None:
    ones = torch.ones(len(keys()), 6, 5)
    parts = [dropout(ones[:, columns], keys(), INPUT, 0.5, columns) for columns in torch.arange(6).chunk(3)]
    assert torch.equal(torch.cat(parts, dim=1), dropout(ones, keys(), INPUT, 0.5))
    config = DecoderConfig(
        context_length=6, num_layers=1, hidden_size=4, num_heads=1, num_kv_heads=1, ffn_size=4,
        residual_dropout=0.3, stochastic_depth=0.4,
    )  # fmt: skip
    x = torch.ones(len(keys()), 6, 4)
    branch = residual_branch(x, layer_noise(keys(), 0, 1, 0.4), FFN_BRANCH, config)
    halves = torch.arange(6).chunk(2)
    of_parts = [
        residual_branch(x[:, half], layer_noise(keys(), 0, 1, 0.4, half), FFN_BRANCH, config) for half in halves
    ]
    assert torch.equal(torch.cat(of_parts, dim=1), branch), "rows are skipped whole"
    second = layer_noise(keys(), 0, 1, 0.4, part=1)
    assert second is not None
    assert second.heads(2).tolist() == [2, 3], "heads are counted on from those of the ranks before"  # type: ignore[union-attr]


def test_the_kernels_drop_what_the_plain_layers_drop() -> None:
    if not ops.usable():
        pytest.skip(f"kernels: {ops.why_not()}")
    tokens, found = torch.randint(0, 20, (6, 8)), []
    for fused in (False, True):
        config = DecoderConfig(
            context_length=8, num_layers=2, hidden_size=32, num_heads=2, num_kv_heads=1, ffn_size=32,
            residual_dropout=0.3, stochastic_depth=0.4,
        )  # fmt: skip
        made = build_model(config, vocab_size=20)
        made.initialise(1)
        made.set_compute_dtype(torch.bfloat16)
        made.set_kernels(fused)
        found.append(made(tokens, context=RowContext(keys())))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.02)
