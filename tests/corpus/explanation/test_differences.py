"""Differences are few, short and true: what is shown as gone was there, and what is shown as new is there."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.explanation.differences import differences

LINES = st.lists(st.sampled_from(["a", "b", "", "long line " * 30, "long line " * 30 + "x"]), max_size=20)


@given(LINES, LINES)
def test_lines_shown_are_lines_of_the_texts(before, after):
    found = differences("\n".join(before), "\n".join(after))
    assert (found == []) == ("\n".join(before) == "\n".join(after))
    for line in found:
        mark, _, rest = line.partition(" ")
        assert len(line) < 200
        if mark in "-+":
            assert any(rest.strip(".").strip() in text for text in (before if mark == "-" else after) or [""])


def test_a_change_in_a_long_line_is_shown_where_it_is():
    before = "word " * 1000 + "old" + " word" * 1000
    (where, gone, new) = differences(f"first\n{before}", f"first\n{before.replace('old', 'new')}")
    assert where == "@ 2"
    assert "old" in gone and "new" in new
    assert gone.startswith("- ...") and gone.endswith("...")


def test_control_characters_are_escaped():
    assert differences("\x1b[31m", "\u202e") == ["@ 1", "- \\x1b[31m", "+ \\u202e"]


@pytest.mark.parametrize("count", [50, 100_000])
def test_much_is_cut(count):
    before = "\n".join(map(str, range(count)))
    started = time.process_time()
    found = differences(before, before.replace("\n", "\nx"))
    assert time.process_time() - started < 5
    assert found[-1] == "... and more"
    assert len(found) <= 41
