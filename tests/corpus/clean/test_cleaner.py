"""Filters mend or drop, each with its reason and count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from groundup.corpus.clean import CleanConfig, Cleaner, Dropped
from groundup.corpus.documents import Document


def run(text, **options):
    cleaner = Cleaner(CleanConfig(**options))
    outcome = cleaner.clean(Document("a:1", text, "s"))
    return (outcome.reason if isinstance(outcome, Dropped) else outcome.text), cleaner.changes


def test_mending_is_counted():
    text, changes = run("a\r\nb\x00\x1b[31m\x85c\ufeff\n")
    assert text == "a\nb[31m\x85c\n"
    assert changes.documents == {"line ends": 1, "control characters": 1}
    assert changes.characters == {"line ends": 1, "control characters": 3}
    assert run("page\fnext\rline")[0] == "page\nnext\nline"


def test_direction_marks_and_markup_stay():
    text = "a\u202e\u200b<script>{{x}}</script><|endoftext|>"
    assert run(text)[0] == text


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("\x00\x01", {}, "empty after cleaning"),
        ("  short  ", {"min_characters": 6}, "shorter than min_characters"),
        ("long enough", {"max_characters": 5}, "longer than max_characters"),
    ],
)
def test_reasons(text, options, reason):
    assert run(text, **options)[0] == reason


def test_composition_is_an_option():
    assert run("e\u0301")[0] == "e\u0301"
    assert run("e\u0301", unicode="nfc")[0] == "\u00e9"


@given(st.text(max_size=50))
def test_cleaning_twice_changes_nothing(text):
    once, _ = run(text, unicode="nfc")
    if once != "empty after cleaning":
        twice, changes = run(once, unicode="nfc")
        assert twice == once
        assert not changes.documents


def test_limits_must_be_in_order():
    with pytest.raises(ValidationError, match="at least min_characters"):
        CleanConfig(min_characters=10, max_characters=5)
