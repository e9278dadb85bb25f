"""Arithmetic on 64-bit hashes, modulo 2^64: mixing, and powers of a factor for sums over runs of characters or tokens.

Invariant: everything here is a bijection or a table, the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FACTOR = 0x9E3779B97F4A7C15
INVERSE = pow(FACTOR, -1, 1 << 64)
"""FACTOR * INVERSE = 1, so that a sum over a run can be moved to the start of the run."""
_LEAST_BITS = 12


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection that spreads numbers evenly over all keys: SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def unmixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers that `mixed` made `keys` of."""
    for shift, factor in ((31, 0x319642B2D24D8EC3), (27, 0x96DE1B173F119089)):
        keys = (keys ^ (keys >> np.uint64(shift)) ^ (keys >> np.uint64(2 * shift))) * np.uint64(factor)
    keys = keys ^ (keys >> np.uint64(30)) ^ (keys >> np.uint64(60))
    return keys


def powers(factor: int, count: int) -> NDArray[np.uint64]:
    """The first `count` powers of a factor, from 1 on; kept for the next call."""
    return _all_powers(factor, 1 << max(_LEAST_BITS, count.bit_length()))[:count]


@lru_cache(maxsize=32)
def _all_powers(factor: int, count: int) -> NDArray[np.uint64]:
    made = np.full(count, factor, dtype=np.uint64)
    made[:1] = 1
    return np.multiply.accumulate(made)
