"""Figures of labels, numbers and spans against their definitions and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import label_metrics as m

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(labels)
def test_f1_is_that_of_precision_and_recall(pairs: list[tuple[int, int]]) -> None:
    predicted, expected = [p for p, _ in pairs], [e for _, e in pairs]
    counts = m.confusion(predicted, expected, 4)
    by_label = []
    for label in sorted({*predicted, *expected}):
        hits = sum(p == e == label for p, e in pairs)
        precision, recall = hits / max(predicted.count(label), 1), hits / max(expected.count(label), 1)
        by_label.append(2 * precision * recall / (precision + recall) if hits else 0.0)
        assert m.f1_by_label(counts)[label] == pytest.approx(by_label[-1])
    assert m.macro_f1(counts) == pytest.approx(sum(by_label) / len(by_label))
    assert m.micro_f1(counts) == pytest.approx(sum(p == e for p, e in pairs) / len(pairs))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_matthews_of_two_labels_is_the_correlation(pairs: list[tuple[bool, bool]]) -> None:
    predicted, expected = [int(p) for p, _ in pairs], [int(e) for _, e in pairs]
    found, correlation = m.matthews(m.confusion(predicted, expected, 2)), m.pearson(predicted, expected)
    assert found == pytest.approx(0.0 if math.isnan(correlation) else correlation, abs=1e-9)


def test_known_values() -> None:
    # From the definition by hand: 6 of 10 right over three labels.
    counts = m.confusion([0, 0, 1, 1, 2, 2, 0, 1, 2, 0], [0, 0, 1, 1, 2, 2, 1, 2, 0, 2], 3)
    assert m.micro_f1(counts) == 0.6
    assert m.macro_f1(counts) == pytest.approx((4 / 7 + 4 / 6 + 4 / 7) / 3)
    assert m.matthews(counts) == pytest.approx((6 * 10 - (4 * 3 + 3 * 3 + 3 * 4)) / math.sqrt((100 - 34) * (100 - 34)))
    assert m.spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert math.isnan(m.pearson([1, 1, 1], [1, 2, 3]))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_spearman_knows_only_order(values: list[float]) -> None:
    rounded = np.round(values, 3)
    if len(set(rounded.tolist())) > 1:
        assert m.spearman(rounded, rounded**3 + 5) == pytest.approx(1.0)
        assert m.spearman(rounded, -rounded) == pytest.approx(-1.0)
