"""Templates: fields, Jinja in its sandbox, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.templates import TEMPLATE_LIMIT, TEXT_LIMIT, Template, template_fault

RECORD = {"question": "Why?", "n": 3, "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "key": "B", "none": None}


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("Question: {question}\nAnswer:", ("question",), "Question: Why?\nAnswer:"),
        ("Question: {{question}}\nAnswer:\n", ("question",), "Question: Why?\nAnswer:\n"),
        ("{n} of {question}", ("n", "question"), "3 of Why?"),
        ("{% for each in choices.text %}{{ each }};{% endfor %}", ("choices",), "a;b;"),
        ("plain", (), "plain"),
        ("", (), ""),
    ],
)
def test_a_text_of_a_record(text: str, fields: tuple[str, ...], expected: str) -> None:
    found = Template(text)
    assert found.fields == fields
    assert found.text(RECORD) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{choices.text}", ["a", "b"]),
        ("{{ choices.text }}", ["a", "b"]),
        ("{{choices.label.index(key)}}", 1),
        ("{{ [question, key] }}", ["Why?", "B"]),
        ("{n}", 3),
        ("{{question}} {{key}}", "Why? B"),
        ("the {key}", "the B"),
    ],
)
def test_one_expression_gives_its_value(text: str, expected: Any) -> None:
    assert Template(text).value(RECORD) == expected


@pytest.mark.parametrize("text", ["{", "}", "{question", "{}", "{{question", "{% if %}", "x" * (TEMPLATE_LIMIT + 1)])
def test_what_is_no_template_is_said(text: str) -> None:
    assert template_fault(text)
    with pytest.raises(ValueError):
        Template(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{answer}", "no field 'answer'"),
        ("{choices.other}", "no field 'choices.other'"),
        ("{none}", "field 'none' is null"),
        ("a {choices}", "field 'choices' is no text"),
        ("{{answer}}", "no field"),
        ("a {{answer}}", "not there"),
        ("a {{none}}", "null"),
        ("a {{ n / 0 }}", "ZeroDivisionError"),
        ("a {{ ''.__class__.__mro__ }}", "SecurityError"),
        ("a {{ question * 100000000 }}", "more than|OverflowError|MemoryError"),
        ("{{ range(10000000) | list }}", "OverflowError"),
    ],
)
def test_a_record_without_what_is_asked_for_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Template(text).value(RECORD)


def test_a_text_has_an_end() -> None:
    with pytest.raises(Refused, match="more than"):
        Template("{question}").text({"question": "x" * (TEXT_LIMIT + 1)})
    with pytest.raises(Refused, match="surrogate"):
        Template("{question}").text({"question": "\ud800"})
