"""Early stopping as a pure function of the recorded losses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.train.stopping import EarlyStoppingConfig, best_validation, is_over

LOSSES = st.lists(st.floats(0.1, 9), max_size=20).map(lambda losses: list(enumerate(losses, start=1)))


@given(losses=LOSSES, patience=st.integers(0, 4))
def test_it_is_over_once_patience_is_at_an_end_and_stays_so_without_a_better_one(
    losses: list[tuple[int, float]], patience: int
) -> None:
    config = EarlyStoppingConfig(patience=patience)
    best = best_validation(config, losses)
    assert (best is None) == (not losses)
    if best is None:
        assert not is_over(config, losses)
        return
    assert losses[best][1] == min(loss for _, loss in losses)
    assert is_over(config, losses) == (len(losses) - best - 1 > patience)


@pytest.mark.parametrize(("min_improvement", "best"), [(0.0, 2), (0.05, 1), (0.5, 0)])
def test_small_improvements_may_not_count(min_improvement: float, best: int) -> None:
    losses = [(10, 3.0), (20, 2.0), (30, 1.95)]
    assert best_validation(EarlyStoppingConfig(min_improvement=min_improvement), losses) == best


def test_without_a_config_it_is_never_over() -> None:
    assert not is_over(None, [(1, 1.0), (2, 9.0)])
