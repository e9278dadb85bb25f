"""Sampling: what is kept, what is drawn, and that a row does not feel its neighbours."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.inference.sampling import draw, greedy, keep_top_k, keep_top_p, penalise, sample


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


logits_of_row = st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=12)


@given(logits_of_row, st.integers(1, 12))
def test_top_k_keeps_the_k_most_likely(row: list[float], top_k: int) -> None:
    logits = torch.tensor([row])
    kept = keep_top_k(logits, top_k).isfinite()[0]
    assert kept.sum() >= min(top_k, len(row))
    if not kept.all():
        assert logits[0][kept].min() > logits[0][~kept].max()


@given(logits_of_row, st.floats(0.05, 0.99))
def test_top_p_keeps_the_smallest_set_that_holds_p(row: list[float], top_p: float) -> None:
    logits = torch.tensor([row])
    probability = logits.softmax(-1)[0]
    kept = keep_top_p(logits, top_p).isfinite()[0]
    assert probability[kept].sum() >= top_p - 1e-5
    assert probability[kept].sum() - probability[kept].min() < top_p + 1e-5
    if not kept.all():
        assert probability[kept].min() >= probability[~kept].max()


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, float("-inf")]).expand(4000, 4)
    ids = draw(logits, generators(*range(4000)))
    shares = torch.bincount(ids, minlength=4) / 4000
    torch.testing.assert_close(shares, logits[0].softmax(-1), atol=0.03, rtol=0)
    assert shares[3] == 0


@given(st.integers(0, 1000))
def test_a_row_alone_is_a_row_in_a_batch(seed: int) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    together = sample(logits, generators(seed, seed + 1, seed + 2), temperature=0.9, top_k=20, top_p=0.8)
    alone = [sample(logits[i : i + 1], generators(seed + i), 0.9, 20, 0.8).item() for i in range(3)]
    assert together.tolist() == alone


def test_temperature_zero_is_greedy_and_draws_nothing() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 0.0, 1.0]])
    random = generators(1, 2)
    before = [generator.get_state() for generator in random]
    assert sample(logits, random, temperature=0.0).tolist() == greedy(logits).tolist() == [1, 0]
    assert all(torch.equal(a, b.get_state()) for a, b in zip(before, random))


def test_a_low_temperature_is_nearly_greedy() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5]])
    assert {sample(logits, generators(seed), temperature=0.01).item() for seed in range(50)} == {1}


@pytest.mark.parametrize(("logit", "expected"), [(2.0, 1.0), (-2.0, -4.0)])
def test_the_penalty_makes_seen_tokens_less_likely(logit: float, expected: float) -> None:
    logits = torch.tensor([[logit, 7.0], [logit, 7.0]])
    assert penalise(logits, [[0, 0], []], 2.0).tolist() == [[expected, 7.0], [logit, 7.0]]
    assert penalise(logits, [[0], [0]], 1.0) is logits
