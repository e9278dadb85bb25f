from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from groundup.optim import (
    ConstantConfig,
    CosineConfig,
    InverseSquareRootConfig,
    LinearConfig,
    OneCycleConfig,
    PlateauConfig,
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
    st.builds(InverseSquareRootConfig, **warmups, timescale_steps=st.integers(0, 100)),
    st.builds(OneCycleConfig, **warmups, final_fraction=fractions, initial_fraction=st.floats(0.01, 1)),
    st.builds(PlateauConfig, **warmups),
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
    if isinstance(schedule, InverseSquareRootConfig | PlateauConfig):
        return
    end = 1.0 if isinstance(schedule, ConstantConfig) else schedule.final_fraction  # type: ignore[attr-defined]
    if isinstance(schedule, WSDConfig) and round(schedule.decay_fraction * total) == 0:
        end = 1.0 if total > learning_start(schedule, total) else end
    assert learning_rate_factor(schedule, total, total) == pytest.approx(
        schedule.final_fraction if isinstance(schedule, LinearConfig | CosineConfig | OneCycleConfig) else end
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
    rise = 1.6 / (warmup + 1)  # a cosine's steepest slope is pi / 2
    fall = 1.6 / max(1, falling)
    if isinstance(schedule, InverseSquareRootConfig):
        fall = 0.5 / (schedule.timescale_steps or max(1, warmup))
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


def test_one_cycle_is_torchs() -> None:
    schedule = OneCycleConfig(warmup_fraction=0.3, initial_fraction=0.04, final_fraction=0.001)
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([parameter], lr=1.0), 1.0, total_steps=1001, pct_start=0.3, div_factor=25, final_div_factor=40
    )
    # Torch's way up has its first step at the initial rate, ours one step further up, so they meet to a step's width.
    for step in range(1000):
        assert learning_rate_factor(schedule, step, 1000) == pytest.approx(theirs.get_last_lr()[0], abs=0.006)
        theirs.optimizer.step()
        theirs.step()


def test_inverse_square_root_is_that_of_the_first_transformer() -> None:
    schedule = InverseSquareRootConfig(warmup_steps=40, warmup_fraction=0.0)
    for step in (40, 41, 160, 4000):
        assert learning_rate_factor(schedule, step, 100) == pytest.approx(math.sqrt(40 / step))


@given(
    losses=st.lists(st.floats(0.5, 4), max_size=30),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    factor=st.floats(0.1, 0.9),
)
def test_reductions_come_where_torchs_come(losses: list[float], patience: int, cooldown: int, factor: float) -> None:
    schedule = PlateauConfig(
        warmup_fraction=0.0,
        patience=patience,
        cooldown=cooldown,
        factor=factor,
        min_improvement=0.01,
        final_fraction=0.05,
    )
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([parameter], lr=1.0), factor=factor, patience=patience, cooldown=cooldown, threshold=0.01,
        min_lr=0.05, eps=0.0,
    )  # fmt: skip
    recorded: list[tuple[int, float]] = []
    for number, loss in enumerate(losses, start=1):
        recorded.append((number * 10, loss))
        theirs.step(loss)
        found = learning_rate_factor(schedule, number * 10, 1000, recorded)
        assert found == pytest.approx(theirs.optimizer.param_groups[0]["lr"])
        assert learning_rate_factor(schedule, number * 10 - 1, 1000, recorded) >= found


def test_later_validations_do_not_change_what_was_decided() -> None:
    schedule = PlateauConfig(warmup_fraction=0.0, patience=0)
    early, late = [(10, 1.0), (20, 1.0)], [(10, 1.0), (20, 1.0), (30, 2.0)]
    for step in range(30):
        assert learning_rate_factor(schedule, step, 100, early) == learning_rate_factor(schedule, step, 100, late)
    assert learning_rate_factor(schedule, 30, 100, late) == 0.25
