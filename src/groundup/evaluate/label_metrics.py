"""Predictions and what is right -> the usual figures of labelling and numbers.

Invariant: pure functions of two equally long sequences; what is not defined (a correlation with a constant) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion(predicted: Sequence[int], expected: Sequence[int], num_labels: int) -> NDArray[np.int64]:
    """Counts [expected, predicted]."""
    pairs = np.asarray(expected, dtype=np.int64) * num_labels + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def f1_by_label(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each label; 0 for one that was neither expected nor predicted."""
    return f1_of_counts(np.diag(counts), counts.sum(0) + counts.sum(1))


def f1_of_counts(hits: ArrayLike, totals: ArrayLike) -> NDArray[np.float64]:
    """F1 of labels that were said rightly so often, and expected and said so often together; 0 where never."""
    found: NDArray[np.float64] = 2 * np.asarray(hits) / np.maximum(np.asarray(totals), 1)
    return found


def indicators(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which text has which label [texts, labels]."""
    numbers = {label: index for index, label in enumerate(labels)}
    found = np.zeros((len(sets), len(labels)), dtype=bool)
    for row, had in zip(found, sets):
        row[[numbers[label] for label in had]] = True
    return found


def mean_where(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> float:
    """Mean of some of the values; NaN where there is none."""
    return float(values[counted].mean()) if counted.any() else math.nan


def f1_by_kind(predicted: Set[tuple[int, str, int, int]], expected: Set[tuple[int, str, int, int]]) -> dict[str, float]:
    """F1 of entities (text, kind, first, last) by kind, over kinds that were expected or predicted."""
    found = {}
    for kind in sorted({entity[1] for entity in predicted | expected}):
        said, right = ({entity for entity in side if entity[1] == kind} for side in (predicted, expected))
        found[kind] = 2 * len(said & right) / (len(said) + len(right))
    return found


def macro_f1(counts: NDArray[np.int64]) -> float:
    """Mean of the labels' F1, over labels that were expected or predicted."""
    return mean_where(f1_by_label(counts), counts.sum(0) + counts.sum(1) > 0)


def micro_f1(counts: NDArray[np.int64]) -> float:
    """F1 of all decisions together; where each has one label that is the accuracy."""
    total = int(counts.sum())
    return float(np.trace(counts)) / total if total else math.nan


def matthews(counts: NDArray[np.int64]) -> float:
    """Matthews' correlation, for any number of labels (Gorodkin 2004); 0 where all of one side is one label."""
    total, hits = float(counts.sum()), float(np.trace(counts))
    expected, predicted = counts.sum(1).astype(np.float64), counts.sum(0).astype(np.float64)
    spread = (total**2 - predicted @ predicted) * (total**2 - expected @ expected)
    return float((hits * total - predicted @ expected) / math.sqrt(spread)) if spread > 0 else 0.0


def pearson(one: ArrayLike, other: ArrayLike) -> float:
    """Correlation of two sequences of numbers; NaN when one is constant or shorter than 2."""
    x, y = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(x) < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread > 0 else math.nan


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Correlation of the ranks, ties at their mean rank."""
    return pearson(_ranks(np.asarray(one, dtype=np.float64)), _ranks(np.asarray(other, dtype=np.float64)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: NDArray[np.float64] = ends - (counts - 1) / 2
    return means[place]
