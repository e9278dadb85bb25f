from __future__ import annotations

import time

import pytest

from groundup.tokens import expressions
from groundup.tokens.expressions import fault_of, fault_of_steps, steps_of
from groundup.tokens.patterns import PATTERNS

GOOD = (
    r"\p{L}+|\p{N}",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+",
    r"[0-9][0-9][0-9]",
    r"(?<=x)y+",
)
BAD = {
    r"(a+)+$": "repeats a group",
    r"(a|a)*b": "repeats a group",
    r"(?:(?:a){2,})*": "repeats a group",
    r"(a+b?){2,9}": "repeats a repetition",
    r"a+*": "repetition",
    r"a+b*c+d*e+": "in a row",
    r"(\w)\1": "cannot be judged",
    r"\k<name>": "cannot be judged",
    r"(?<name>a)": "unknown group",
    r"(?P<name>a)": "unknown group",
    r"a{2000}": "1000 times",
    "[a": "cannot be judged",
    "(a": "not closed",
    "a)": "not opened",
    "*a": "repeats nothing",
    "x{": "repeats nothing",
    "\\": "cannot be judged",
    "a" * 5000: "characters long",
    r"[b-a]": "not understood",
}


@pytest.mark.parametrize("expression", GOOD)
def test_harmless_expressions_pass(expression: str) -> None:
    assert fault_of(expression) == ""


@pytest.mark.parametrize("expression", BAD)
def test_expressions_that_could_stall_are_refused_with_the_reason(expression: str) -> None:
    started = time.monotonic()
    assert BAD[expression] in fault_of(expression)
    assert time.monotonic() - started < 5


def test_what_is_slow_without_nested_repetitions_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "PROBE_SECONDS", 2)
    assert "takes seconds" in fault_of(r"\s*\s*\s*x")


def test_known_expressions_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "_probe", lambda expression, sets: "tried")
    fault_of.cache_clear()
    assert {fault_of(expression) for pattern in PATTERNS.values() for expression in pattern.expressions} == {""}
    fault_of.cache_clear()


def test_steps_are_found_in_sequences_in_order() -> None:
    inner = {"type": "Sequence", "pretokenizers": [{"type": "b"}, {"type": "c"}]}
    assert [step["type"] for step in steps_of({"type": "Sequence", "pretokenizers": [{"type": "a"}, inner, 3]})] == [
        *"abc"
    ]
    assert steps_of(None) == steps_of("x") == []


def test_there_are_only_so_many_steps() -> None:
    assert "9 steps" in fault_of_steps([{"type": "Digits"}] * 9)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ({"type": "Digits", "individual_digits": True}, ""),
        ({"type": "Punctuation", "behavior": "Isolated"}, ""),
        ({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": False}, ""),
        ({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed"}, "keep every character"),
        ({"type": "Whitespace"}, "keep every character"),
        ({"type": "Split", "pattern": {}, "behavior": "Isolated"}, "without pattern"),
        ({"type": "Split", "pattern": {"Regex": 3}, "behavior": "Isolated"}, "no text"),
        ({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}, "repeats a group"),
        ({}, "keep every character"),
    ],
)
def test_steps_that_lose_text_or_stall_are_refused(step: dict[str, object], fault: str) -> None:
    found = fault_of_steps([step])
    assert fault in found if fault else found == ""
