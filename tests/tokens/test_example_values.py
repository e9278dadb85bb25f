"""Values of labelled records, in the ways in which files write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.tokens.example_values import answers_of, label_of, number_of, text_of, words_of
from groundup.tokens.record_reading import Refused

words = st.lists(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5), min_size=1, max_size=6)


@given(words)
def test_lists_in_a_cell_are_lists(found: list[str]) -> None:
    for written in (json.dumps(found), json.dumps(found, ensure_ascii=False), repr(found), " " + repr(found) + "\n"):
        assert words_of(written, "text") == tuple(found)
    as_numpy = "[" + " ".join(map(repr, found)) + "]"
    assert words_of(as_numpy, "text") == tuple(found)


@given(words.filter(lambda found: not (found[0].startswith("[") and found[-1].endswith("]"))))
def test_words_of_a_text_are_between_white_space(found: list[str]) -> None:
    assert words_of(" ".join(found), "text") == tuple(found)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[0, 3, 4]", ("0", "3", "4")),
        ("[0 3\n 4]", ("0", "3", "4")),
        ("[ CLS ] is a word ]", ("[", "CLS", "]", "is", "a", "word", "]")),
        ("['EU' \"don't\"]", ("EU", "don't")),
        (r"['a\d']", (r"a\d",)),
        ([1, "a"], ("1", "a")),
    ],
)
def test_odd_lists(written: Any, expected: tuple[str, ...]) -> None:
    assert words_of(written, "text") == expected


@pytest.mark.parametrize("value", ["[]", "", "  ", [], ["a", None], ["a", " "], 3, None, {"a": 1}, [True]])
def test_what_holds_no_words_is_refused(value: Any) -> None:
    with pytest.raises(Refused):
        words_of(value, "text")


@pytest.mark.parametrize(
    "value",
    [
        {"text": ["bank"], "answer_start": [10]},
        [{"text": "bank", "answer_start": 10}],
        {"text": "bank", "answer_start": 10},
        '{"text": ["bank"], "answer_start": [10]}',
        "{'text': ['bank'], 'answer_start': [10]}",
        '[{"text": "bank", "answer_start": 10}]',
    ],
)
def test_answers_in_every_form(value: Any) -> None:
    assert answers_of(value, "the river bank") == (("bank", 10),)


@pytest.mark.parametrize("value", ["bank", "{'text': ['bank' 'x'], 'answer_start': [10 3]}", "[", 10, None, "[10]"])
def test_answers_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(Refused):
        answers_of(value, "the river bank")


def test_texts_labels_and_numbers_of_parquet() -> None:
    assert text_of("Zürich".encode(), "text") == "Zürich"
    assert label_of(b"wet") == "wet"
    assert number_of(Decimal("2.50")) == 2.5
    with pytest.raises(Refused, match="not UTF-8"):
        text_of(b"\xff", "text")
