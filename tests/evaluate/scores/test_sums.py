"""Final answers of calculations."""

from __future__ import annotations

from decimal import Decimal

import pytest

from groundup.evaluate.scores.sums import final_answer, final_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 1,234", "1234"),
        ("#### -5", "-5"),
        ("#### $18.00", "18.00"),
        ("So she has 12 apples.", "12"),
        ("from 1990-1995 it is 5", "5"),
        ("between 3-4", "4"),
        ("The answer is -3.5.", "-3.5"),
        ("it costs .5 dollars", "0.5"),
        ("#### 7 and then 8", "7"),
        ("no number", None),
        ("", None),
    ],
)
def test_the_number_at_the_end(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("she pays $1,000", "#### 1000", 1.0),
        ("#### 18", "#### 18.0", 1.0),
        ("#### -18", "#### 18", 0.0),
        ("I do not know", "#### 18", 0.0),
        ("I do not know", "nothing", 0.0),
    ],
)
def test_equal_numbers(prediction: str, reference: str, right: float) -> None:
    assert final_answer(prediction, reference) == right
