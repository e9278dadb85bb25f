"""Sums over clusters: values, errors, and errors that mean what they say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import ClusterRatio, Metric, mean

pairs = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), min_size=2, max_size=30)


@given(pairs, st.integers(1, 5))
def test_clusters_may_come_in_any_portions(clusters: list[tuple[float, int]], portion: int) -> None:
    y, x = np.array(clusters).T
    whole, parts = ClusterRatio(), ClusterRatio()
    whole.add(y, x)
    for start in range(0, len(x), portion):
        parts.add(y[start : start + portion], x[start : start + portion])
    residual = y - y.sum() / x.sum() * x
    expected = math.sqrt(len(x) / (len(x) - 1) * (residual**2).sum()) / x.sum()
    assert whole.value == pytest.approx(y.sum() / x.sum())
    assert parts.value == pytest.approx(whole.value)
    assert whole.stderr == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert parts.stderr == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_error_is_the_spread_of_the_value_over_repetitions() -> None:
    random = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        x = random.integers(5, 60, size=80)
        rate = random.normal(2.0, 0.5, size=80)
        ratio = ClusterRatio()
        ratio.add(rate * x, x)
        values.append(ratio.value)
        errors.append(ratio.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)  # type: ignore[arg-type]


def test_mean_has_the_textbook_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    metric = mean(values)
    assert metric.value == pytest.approx(0.6)
    assert metric.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))
    assert metric.n == 5


def test_one_cluster_has_no_error_and_none_has_no_value() -> None:
    assert mean([0.5]) == Metric(0.5, None, 1)
    assert mean([]).as_dict() == {"value": None, "stderr": None, "n": 0}
    json.dumps(Metric(math.inf, math.nan, 3).as_dict(), allow_nan=False)


def test_empty_clusters_are_no_evidence() -> None:
    ratio = ClusterRatio()
    ratio.add([1.0, 0.0, 3.0], [1.0, 0.0, 1.0])
    assert ratio.clusters == 2
    assert ratio.value == 2.0
