"""Errors of scores of a whole set, against what they estimate."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from groundup.evaluate.scores.bootstrap import ResampledScore


def ratio(sums: NDArray[np.float64]) -> float:
    return float(sums[0] / sums[1])


def test_the_error_of_a_mean_is_that_of_the_formula() -> None:
    values = np.random.default_rng(5).normal(3.0, 2.0, 400)
    score = ResampledScore(ratio, 2000, seed=1)
    score.add(np.stack([values, np.ones(400)], axis=1))
    found = score.metric()
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    assert found.stderr == pytest.approx(values.std(ddof=1) / 20, rel=0.08)


def test_the_error_is_the_spread_over_new_sets() -> None:
    """As BLEU does, a score that is no mean: a product of two ratios."""

    def product(sums: NDArray[np.float64]) -> float:
        return float((sums[0] / sums[2]) * (sums[1] / sums[2]))

    generator = np.random.default_rng(7)

    def drawn() -> NDArray[np.float64]:
        first = generator.exponential(1.0, 150)
        return np.stack([first, first + generator.normal(2.0, 1.0, 150), np.ones(150)], axis=1)

    spread = np.std([product(drawn().sum(0)) for _ in range(3000)])
    found = []
    for seed in range(20):
        score = ResampledScore(product, 500, seed)
        score.add(drawn())
        found.append(score.metric().stderr)
    assert np.mean(found) == pytest.approx(spread, rel=0.1)


def test_some_at_a_time_is_the_same_to_the_bit_and_the_seed_decides() -> None:
    rows = np.random.default_rng(2).random((700, 2)) + 0.5

    def measured(seed: int, *parts: int) -> tuple[float, float | None]:
        score = ResampledScore(ratio, 100, seed)
        for part in np.split(rows, parts):
            score.add(part)
        metric = score.metric()
        return metric.value, metric.stderr

    assert measured(3) == measured(3)
    assert measured(3)[1] != measured(4)[1]
    assert measured(3, 256, 512)[1] == pytest.approx(measured(3)[1], rel=1e-9)


def test_one_item_has_no_error() -> None:
    score = ResampledScore(ratio, 100, 0)
    assert score.metric().n == 0
    score.add([[1.0, 2.0]])
    assert score.metric().as_dict() == {"value": 0.5, "stderr": None, "n": 1}
