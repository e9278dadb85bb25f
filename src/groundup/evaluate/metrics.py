"""Sums over clusters -> a number with its standard error.

A cluster is what was drawn together and cannot be taken for independent evidence: a document's tokens, a question's
answer. Invariant: memory does not grow with the number of clusters; only sums and sums of products are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Metric:
    """A value, its standard error (None: not known from fewer than two clusters) and the number of units it is over."""

    value: float
    stderr: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """`{value, stderr, n}` for `evaluation.json`; what is not finite becomes None."""
        stderr = self.stderr if self.stderr is not None and math.isfinite(self.stderr) else None
        return {"value": self.value if math.isfinite(self.value) else None, "stderr": stderr, "n": self.n}


class ClusterRatio:
    """sum(numerators) / sum(denominators) over clusters that are added a few at a time.

    The standard error is that of a ratio of totals over independent clusters (Cochran, Sampling Techniques, 1977,
    equation 6.13, without the finite-population factor):
    sqrt(C / (C - 1) * sum_c (y_c - R x_c)^2) / sum_c x_c.
    """

    def __init__(self) -> None:
        self.clusters = 0
        self.numerator = 0.0
        self.denominator = 0.0
        self._products = np.zeros(3)

    def add(self, numerators: ArrayLike, denominators: ArrayLike) -> None:
        """Add one cluster per element; elements with denominator 0 hold no evidence and are left out."""
        y, x = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        y, x = y[x > 0], x[x > 0]
        self.clusters += x.size
        self.numerator += float(y.sum())
        self.denominator += float(x.sum())
        self._products += (float(y @ y), float(x @ y), float(x @ x))

    @property
    def value(self) -> float:
        """The ratio of the totals; NaN when nothing was added."""
        return self.numerator / self.denominator if self.denominator else math.nan

    @property
    def stderr(self) -> float | None:
        """Standard error of `value`; None below two clusters."""
        if self.clusters < 2:
            return None
        yy, xy, xx = self._products
        ratio = self.value
        squares = max(yy - 2 * ratio * xy + ratio * ratio * xx, 0.0)
        return math.sqrt(squares * self.clusters / (self.clusters - 1)) / self.denominator

    def metric(self, scale: float = 1.0) -> Metric:
        """As a metric, with value and error times `scale`; n is the denominator's total."""
        stderr = None if self.stderr is None else self.stderr * scale
        return Metric(self.value * scale, stderr, round(self.denominator))


def mean(values: Sequence[float]) -> Metric:
    """Mean of independent values; standard error = sample standard deviation / sqrt(n)."""
    ratio = ClusterRatio()
    ratio.add(values, np.ones(len(values)))
    return ratio.metric()
