"""Arithmetic modulo 2^64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.duplicates.hashing import FACTOR, INVERSE, mixed, powers, unmixed


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_mixing_has_an_inverse(values):
    numbers = np.array(values, dtype=np.uint64)
    assert unmixed(mixed(numbers)).tolist() == values


def test_mixing_spreads_small_numbers_over_all_keys():
    keys = mixed(np.arange(10_000, dtype=np.uint64))
    counts = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16)
    assert counts.min() > 500


def test_powers_do_not_depend_on_what_was_asked_before():
    assert powers(3, 5).tolist() == [1, 3, 9, 27, 81]
    assert powers(3, 5000)[:5].tolist() == [1, 3, 9, 27, 81]
    assert len(powers(3, 0)) == 0
    assert (powers(FACTOR, 100) * powers(INVERSE, 100) == 1).all()
