"""Words of a list in generated text."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundup.errors import DataError
from groundup.evaluate.scores.unwanted import UnwantedWords


def test_words_are_counted_at_their_borders(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("# a list\nidiot\nshut up\n笨蛋\n", encoding="utf-8")
    words = UnwantedWords(str(listed))
    assert words.count("You Idiot, shut up!") == (2, 4)
    assert words.count("idiotic") == (0, 1)
    assert words.count("你是笨蛋") == (1, 4)
    assert words.count("") == (0, 0)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="word list"):
        UnwantedWords(str(tmp_path / "none.txt"))
