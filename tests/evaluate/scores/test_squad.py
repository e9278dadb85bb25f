"""SQuAD's rules, by examples computed by hand, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate.scores.squad import exact_match, f1


@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "shared"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("a cat and a dog", "cat, dog", 0.0, 0.8),  # cat and dog | cat dog: 2 * 2 / (3 + 2)
        ("in 1815", "1815", 0.0, 2 / 3),
        ("Port-au-Prince", "Port au Prince", 0.0, 0.0),  # the hyphen goes, and one word is left
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
        ("Paris", "", 0.0, 0.0),
        ("", "Paris", 0.0, 0.0),
        ("dog dog dog", "dog", 0.0, 0.5),
    ],
)
def test_by_hand(prediction: str, reference: str, exact: float, shared: float) -> None:
    assert exact_match(prediction, reference) == exact
    assert f1(prediction, reference) == pytest.approx(shared)


@given(st.text("abt he.,'", max_size=20), st.text("abt he.,'", max_size=20))
def test_both_are_fair(one: str, other: str) -> None:
    assert f1(one, other) == f1(other, one)
    assert exact_match(one, one) == f1(one, one) == 1.0
    assert exact_match(one, other) <= f1(one, other) <= 1.0
