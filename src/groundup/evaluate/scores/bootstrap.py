"""Sums over items -> a score of the whole set, such as BLEU, with its standard error by resampling.

Each item counts in each of B resamplings as often as a Poisson number with mean 1 says (the bootstrap of a stream:
Chamandy et al., "Estimating uncertainty for massive data streams", 2012); what is kept is B sums, however many items.

Invariant: the same items in the same order and the same seed give the same error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundup.evaluate.metrics import Metric

Statistic = Callable[[NDArray[np.float64]], float]
"""Sums over items -> the score."""
_AT_ONCE = 256


class ResampledScore:
    """A score of sums over items that are added some at a time."""

    def __init__(self, statistic: Statistic, resamplings: int, seed: int) -> None:
        self.items = 0
        self._statistic, self._resamplings = statistic, resamplings
        self._generator = np.random.default_rng(seed)
        self._total: NDArray[np.float64] | None = None
        self._sums = np.zeros((resamplings, 0))

    def add(self, sums: ArrayLike) -> None:
        """Count items: their sums [items, numbers]."""
        given = np.asarray(sums, dtype=np.float64)
        if self._total is None:
            self._total = np.zeros(given.shape[1])
            self._sums = np.zeros((self._resamplings, given.shape[1]))
        self._total += given.sum(0)
        for start in range(0, len(given), _AT_ONCE):
            part = given[start : start + _AT_ONCE]
            self._sums += self._generator.poisson(1.0, (self._resamplings, len(part))) @ part
        self.items += len(given)

    def metric(self) -> Metric:
        """The score, the standard deviation over resamplings (None below two items), the number of items."""
        if self._total is None:
            return Metric(math.nan, None, 0)
        value = self._statistic(self._total)
        if self.items < 2:
            return Metric(value, None, self.items)
        found = [self._statistic(sums) for sums in self._sums if sums.any()]
        return Metric(value, float(np.std(found, ddof=1)) if len(found) > 1 else None, self.items)
