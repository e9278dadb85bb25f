"""Batches -> how often which token is to be predicted after which: what a model can know before it has learnt anything.

Invariant: a pair is counted exactly where training would predict it, so masked targets and documents that end count as
they do there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.tokens.batches import Batch
from groundup.tokens.packing import IGNORE

MERGE_PAIRS = 2**22
"""Pairs that are held one by one before they are summed up."""


@dataclass(frozen=True)
class Bigrams:
    """Distinct pairs, in ascending order."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    counts: NDArray[np.int64]


def count_bigrams(batches: Iterable[Batch], vocab_size: int) -> Bigrams:
    """Pairs (token, target) of all batches; memory grows with distinct pairs only."""
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    waiting: list[NDArray[np.int64]] = []
    for batch in batches:
        tokens, targets = batch.tokens.numpy().ravel(), batch.targets.numpy().ravel()
        known = targets != IGNORE
        waiting.append(tokens[known] * vocab_size + targets[known])
        if sum(map(len, waiting)) >= MERGE_PAIRS:
            keys, counts = _merged(keys, counts, waiting)
            waiting = []
    keys, counts = _merged(keys, counts, waiting)
    return Bigrams(keys // vocab_size, keys % vocab_size, counts)


def _merged(
    keys: NDArray[np.int64], counts: NDArray[np.int64], waiting: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    fresh, numbers = np.unique(np.concatenate([np.empty(0, np.int64), *waiting]), return_counts=True)
    merged, places = np.unique(np.concatenate([keys, fresh]), return_inverse=True)
    totals = np.bincount(places, weights=np.concatenate([counts, numbers]), minlength=len(merged))
    return merged, totals.astype(np.int64)
