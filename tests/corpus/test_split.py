"""Splits follow the content hash and the fractions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from groundup.corpus.split import TEST, TRAIN, VALIDATION, SplitConfig, assign

KEYS = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)


def test_fractions_are_met():
    codes = assign(KEYS, SplitConfig(validation=0.1, test=0.05))
    shares = np.bincount(codes, minlength=4)[1:] / len(KEYS)
    assert shares == pytest.approx([0.85, 0.1, 0.05], abs=0.01)


@given(st.integers(0, 2**63 - 1), st.integers(1000, 10_000))
def test_a_key_keeps_its_split_when_others_come_and_go(seed, count):
    config = SplitConfig(validation=0.1, test=0.1, seed=seed)
    assert (assign(KEYS[:count], config) == assign(KEYS, config)[:count]).all()


def test_another_seed_draws_others():
    one, other = (assign(KEYS, SplitConfig(validation=0.1, seed=seed)) for seed in (0, 1))
    assert (one != other).any()


def test_a_wanted_split_is_not_empty_and_training_never_is():
    for count in range(2, 10):
        codes = assign(KEYS[:count], SplitConfig(validation=0.001))
        assert sorted(np.unique(codes)) == [TRAIN, VALIDATION]
    assert set(assign(KEYS[:3], SplitConfig(validation=0.001, test=0.001)).tolist()) == {TRAIN, VALIDATION, TEST}
    assert assign(KEYS[:1], SplitConfig()).tolist() == [TRAIN]
    assert assign(KEYS[:0], SplitConfig()).tolist() == []
    twins = assign(np.repeat(KEYS[:2], 3), SplitConfig(validation=0.001))
    assert len(set(twins[:3].tolist())) == len(set(twins[3:].tolist())) == 1


def test_something_must_be_left():
    with pytest.raises(ValidationError, match="below 1"):
        SplitConfig(validation=0.5, test=0.5)
