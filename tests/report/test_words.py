"""Words: numbers in the unit their name says, short and readable, for any value a file may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.report import words

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["x_seconds", "n_bytes", "size_bytes", "padding_share", "mfu", "", "step"]))
def test_any_value_becomes_text(value: Any, key: str) -> None:
    assert isinstance(words.value(key, value), str)
    assert all(isinstance(name, str) and isinstance(text, str) for name, text in words.pairs({key: value}))
    for function in (words.compact, words.exact, words.percent, words.duration, words.size):
        assert isinstance(function(value), str)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("train_seconds", 492.3, "8 min 12 s"),
        ("tokens_per_second", 5600.0, "5,600"),
        ("peak_memory_bytes", 1_510_000_000, "1.51 GB"),
        ("n_bytes", 128_900, "128,900"),
        ("replay_fraction", 0.25, "25.0%"),
        ("mfu", 0.412, "41.2%"),
        ("tied", False, "no"),
        ("betas", [0.9, 0.95], "0.9, 0.95"),
        ("note", None, words.MISSING),
        ("learning_rate", 0.0003, "0.0003"),
        ("vocab_size", 4096, "4,096"),
        ("many", list(range(40)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ... (40 in all)"),
    ],
)
def test_the_name_gives_the_unit(key: str, value: Any, text: str) -> None:
    assert words.value(key, value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6_912_000, "6.9M"),
        (43_210, "43.2k"),
        (999, "999"),
        (2.2e12, "2.2T"),
        (0.5, "0.5"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_headlines_are_compact(value: Any, text: str) -> None:
    assert words.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0042, "4 ms"),
        (3.41, "3.4 s"),
        (59.4, "59 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_read_like_speech(value: float, text: str) -> None:
    assert words.duration(value) == text


def test_inner_names_are_joined() -> None:
    assert list(words.pairs({"epochs": {"factbook": 1.8}, "compiled": True})) == [
        ("epochs / factbook", "1.8"),
        ("compiled", "yes"),
    ]
