"""What a text names, and how much it repeats itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate.scores.contents import distinct, named
from groundup.evaluate.scores.rouge import words

TEXTS = st.text(st.sampled_from("ab 北京.-1"), max_size=30)


def test_a_thing_is_named_by_whole_words_in_a_row() -> None:
    text = "We will send order 8569 on Sunday, to 17 Station Road. 我在北京"
    things = ["8569", "sunday", "17 station road", "Station 17", "856", "Sun", "北京", "...", ""]
    assert named(text, things) == [True, True, True, False, False, False, True, False, False]


def test_repetition_is_counted_in_words() -> None:
    assert distinct("a b a b", 1) == (2, 4)
    assert distinct("a b a b", 2) == (2, 3)
    assert distinct("a b", 4) == (0, 0)
    assert distinct("我我", 1) == (1, 2)


@given(TEXTS, st.integers(1, 4))
def test_no_more_differ_than_there_are(text: str, size: int) -> None:
    different, whole = distinct(text, size)
    assert 0 <= different <= whole == max(len(words(text)) - size + 1, 0)
    assert (different > 0) == (whole > 0)


@given(TEXTS, TEXTS, TEXTS)
def test_what_stands_in_a_text_is_named(before: str, thing: str, behind: str) -> None:
    assert named(f"{before} {thing} {behind}", [thing]) == [bool(words(thing))]
