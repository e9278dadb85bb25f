from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from groundup.optim import (
    ConstantConfig,
    CosineConfig,
    LinearConfig,
    ScheduleConfig,
    WSDConfig,
    learning_rate_factor,
)

fractions = st.floats(0, 1)
warmups = {"warmup_steps": st.integers(0, 50), "warmup_fraction": st.floats(0, 0.5)}
schedules = st.one_of(
    st.builds(ConstantConfig, **warmups),
    st.builds(LinearConfig, **warmups, final_fraction=fractions),
    st.builds(CosineConfig, **warmups, final_fraction=fractions),
    st.builds(WSDConfig, **warmups, final_fraction=fractions, decay_fraction=fractions),
)


@given(schedule=schedules, total=st.integers(1, 400))
def test_factors_are_positive_and_at_most_one(schedule: ConstantConfig, total: int) -> None:
    factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@given(schedule=schedules, total=st.integers(1, 400))
def test_it_rises_then_never_rises_again(schedule: ConstantConfig, total: int) -> None:
    warmup = max(schedule.warmup_steps, round(schedule.warmup_fraction * total))
    factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
    assert factors[: warmup + 1] == sorted(factors[: warmup + 1])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    if warmup < total:
        assert factors[warmup] == pytest.approx(1.0)


@given(schedule=schedules, total=st.integers(60, 400))
def test_it_ends_at_the_final_fraction(schedule: ConstantConfig, total: int) -> None:
    end = 1.0 if isinstance(schedule, ConstantConfig) else schedule.final_fraction  # type: ignore[attr-defined]
    if isinstance(schedule, WSDConfig) and round(schedule.decay_fraction * total) == 0:
        end = 1.0 if total > learning_start(schedule, total) else end
    assert learning_rate_factor(schedule, total, total) == pytest.approx(
        schedule.final_fraction if isinstance(schedule, LinearConfig | CosineConfig) else end
    )
    assert learning_rate_factor(schedule, 10 * total, total) <= 1


def learning_start(schedule: WSDConfig, total: int) -> int:
    return max(schedule.warmup_steps, round(schedule.warmup_fraction * total))


@given(schedule=schedules, total=st.integers(100, 400))
def test_it_has_no_jumps(schedule: ConstantConfig, total: int) -> None:
    warmup = max(schedule.warmup_steps, round(schedule.warmup_fraction * total))
    falling = total - warmup
    if isinstance(schedule, WSDConfig):
        falling = min(falling, round(schedule.decay_fraction * total))
    factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
    rise = 1 / (warmup + 1)
    fall = 1.6 / max(1, falling)  # a cosine's steepest slope is pi / 2
    for before, after in itertools.pairwise(factors):
        assert -fall - 1e-9 <= after - before <= rise + 1e-9


def test_the_middle_of_wsd_is_flat() -> None:
    schedule = WSDConfig(warmup_steps=10, warmup_fraction=0.0, decay_fraction=0.4, final_fraction=0.0)
    assert {learning_rate_factor(schedule, step, 100) for step in range(10, 61)} == {1.0}
    assert learning_rate_factor(schedule, 80, 100) == pytest.approx(0.5)
    assert learning_rate_factor(schedule, 99, 100) == pytest.approx(1 / 40)


def test_kinds_are_told_apart_and_checked() -> None:
    adapter: TypeAdapter[object] = TypeAdapter(ScheduleConfig)
    assert isinstance(adapter.validate_python({"kind": "cosine", "final_fraction": 0.2}), CosineConfig)
    for wrong in (
        {"kind": "step"},
        {"kind": "wsd", "decay_fraction": 1.5},
        {"kind": "constant", "final_fraction": 0.1},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


@pytest.mark.parametrize(("step", "total"), [(-1, 10), (0, 0)])
def test_impossible_steps_are_refused(step: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"step {step} of {total}"):
        learning_rate_factor(WSDConfig(), step, total)
