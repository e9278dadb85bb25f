"""Which values of lambda go on and which is chosen: rules, without training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import Metric
from groundup.pipeline.lambda_choice import Point, Rule, Trial, choose, survivors, trials_of_folds

RULE = Rule(0.02)
UNIT = "bits per answer byte"


def trial(weight: float, bits: list[float], lost: float, fold: int = 0, error: float = 0.0) -> Trial:
    return Trial(weight, fold, tuple((each * 4, 4.0) for each in bits), Metric(lost, error, 1000))


def point(weight: float, bits: float, lost: float, error: float = 0.0) -> Point:
    return Point(weight, (trial(weight, [bits, bits * 1.5, bits * 0.5], lost, error=error),))


POINTS = st.lists(
    st.tuples(
        st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 8.0]), st.floats(0.1, 5), st.floats(-0.05, 0.2), st.booleans()
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each[0],
).map(
    lambda found: [
        replace(point(weight, bits, lost), stopped="after 1 of 3 folds" if stopped else "")
        for weight, bits, lost, stopped in found
    ]
)


def test_the_best_answers_within_the_bound_are_chosen() -> None:
    found = choose([point(0.5, 1.0, 0.001), point(1.0, 0.8, 0.01), point(4.0, 0.2, 0.05)], RULE, UNIT)
    assert found is not None and found.weight == 1.0 and found.within_bound and not found.warnings
    assert "lambda 1 answers best" in found.why and UNIT in found.why and "+1.00%" in found.why


def test_the_error_of_forgetting_counts_against_a_value() -> None:
    points = [point(0.5, 1.0, 0.001), point(1.0, 0.8, 0.015, error=0.006), point(2.0, 0.9, 0.015, error=0.004)]
    found = choose(points, RULE, UNIT)
    assert found is not None and found.weight == 2.0


def test_of_answers_that_cannot_be_told_apart_the_one_that_forgets_less() -> None:
    noisy = Point(0.5, (trial(0.5, [1.0, 2.2, 0.9, 1.9], 0.001),))
    best = Point(1.0, (trial(1.0, [1.1, 1.9, 1.0, 1.9], 0.015),))
    found = choose([noisy, best], RULE, UNIT)
    assert found is not None and found.weight == 0.5 and "one standard error" in found.why
    clear = Point(0.5, (trial(0.5, [1.2, 2.0, 1.1, 2.0], 0.001),))
    again = choose([clear, best], RULE, UNIT)
    assert again is not None and again.weight == 1.0, "the same difference in every conversation is a clear one"


def test_nothing_within_the_bound_gives_the_least_forgetting_and_a_warning() -> None:
    found = choose([point(0.5, 1.0, 0.03), point(1.0, 0.5, 0.04)], RULE, UNIT)
    assert found is not None and found.weight == 0.5 and not found.within_bound
    assert "no value keeps" in found.why and "replay_fraction" in found.warnings[0]


@pytest.mark.parametrize(("best", "word"), [(0.5, "smallest"), (2.0, "largest")])
def test_an_end_of_the_grid_is_said(best: float, word: str) -> None:
    found = choose([point(w, 0.5 if w == best else 1.0, 0.001) for w in (0.5, 1.0, 2.0)], RULE, UNIT)
    assert found is not None and found.weight == best and word in found.warnings[0]


def test_where_higher_is_better_the_highest_is_chosen() -> None:
    rule = Rule(0.02, higher_is_better=True)
    points = [point(0.5, 0.6, 0.0), point(1.0, 0.9, 0.01), point(2.0, 0.8, 0.01)]
    found = choose(points, rule, "")
    assert found is not None and found.weight == 1.0
    assert survivors(points, rule, 0.5) == {1.0, 2.0}


@given(POINTS, st.permutations(range(6)))
def test_what_was_stopped_is_never_chosen_and_the_order_does_not_matter(points: list[Point], order: list[int]) -> None:
    found = choose(points, RULE, UNIT)
    running = [each for each in points if not each.stopped]
    assert (found is None) == (not running)
    if found is not None:
        assert found.weight in {each.weight for each in running}
        within = [each for each in running if RULE.within(each)]
        assert found.within_bound == bool(within)
        if found.within_bound:
            assert found.weight in {each.weight for each in within}
    assert choose([points[i] for i in order if i < len(points)], RULE, UNIT) == found


@given(POINTS, st.floats(0.1, 1))
def test_the_better_part_goes_on_and_two_at_least(points: list[Point], keep: float) -> None:
    found = survivors(points, RULE, keep)
    assert len(found) == trials_of_folds(len(points), 2, keep)[1]
    assert len(found) >= min(2, len(points), keep * len(points))
    ordered = [each.weight for each in RULE.order(points)]
    assert found == set(ordered[: len(found)])


def test_a_trial_that_diverged_neither_goes_on_nor_wins() -> None:
    lost = Point(1.0, (Trial(1.0, 0, diverged=True),), "diverged after 1 of 3 folds")
    good = point(2.0, 1.0, 0.0)
    assert survivors([replace(lost, stopped=""), good], RULE, 1.0) == {2.0}
    assert choose([lost], RULE, UNIT) is None
    found = choose([lost, good], RULE, UNIT)
    assert found is not None and found.weight == 2.0


def test_figures_of_folds_are_joined() -> None:
    both = Point(1.0, (trial(1.0, [1.0, 3.0], 0.01, error=0.002), trial(1.0, [2.0] * 6, 0.03, 1, error=0.002)))
    assert both.quality.value == pytest.approx(2.0) and both.quality.n == 32
    assert both.forgetting.value == pytest.approx(0.02)
    assert both.forgetting.stderr == pytest.approx(0.01), "the folds differ by more than the error of each"


def test_the_plan_of_the_default_grid_costs_twice_the_phase() -> None:
    assert trials_of_folds(5, 3, 0.5) == [5, 3, 2]
    assert trials_of_folds(4, 4, 0.5) == [4, 2, 2, 2] and trials_of_folds(4, 3, 1.0) == [4, 4, 4]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(1, 1e6))), st.floats(-1, 1), st.booleans())
def test_a_trial_reads_back_to_the_bit(scores: list[tuple[float, float]], lost: float, diverged: bool) -> None:
    before = Trial(0.25, 2, tuple(scores), Metric(lost, 0.1, 7), Metric(-lost, None, 7), diverged)
    assert Trial.from_dict(json.loads(json.dumps(before.as_dict()))) == before
