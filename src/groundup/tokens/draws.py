"""Numbers -> random numbers, by hashing a counter: no state, so any of them can be made at any time.

Invariant: the same key gives the same numbers, on every machine and whatever was drawn before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_UINT64 = np.uint64
_GOLDEN = 0x9E3779B97F4A7C15
_MODULUS = 1 << 64


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finisher of splitmix64 (Steele, Lea, Flood, 2014); arithmetic modulo 2**64."""
    value = (value ^ (value >> _UINT64(30))) * _UINT64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> _UINT64(27))) * _UINT64(0x94D049BB133111EB)
    return value ^ (value >> _UINT64(31))


def draws(count: int, *key: int) -> NDArray[np.uint64]:
    """`count` random numbers of 64 bits that belong to `key` (whole numbers): element i is the hash of (key, i)."""
    state = 0
    for part in key:
        mixed = mix(np.array([(state + (part + 1) * _GOLDEN) % _MODULUS], dtype=_UINT64))
        state = int(mixed[0])
    counters = (np.arange(1, count + 1, dtype=_UINT64)) * _UINT64(_GOLDEN)
    return mix(counters + _UINT64(state))


def shares(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Random numbers of 64 bits as numbers from 0 to below 1, evenly distributed."""
    return (numbers >> _UINT64(11)).astype(np.float64) * 2.0**-53
