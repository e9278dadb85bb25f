"""Words of a list in a text, for the rate of toxic words.

Invariant: words are found as `corpus.clean.word_lists` finds them, at word boundaries and whatever their case.
"""

from __future__ import annotations

from pathlib import Path

from groundup.corpus.clean.word_lists import WordListConfig, read_word_list
from groundup.evaluate.scores.rouge import words


class UnwantedWords:
    """A list from a file. Raises DataError when it cannot be read."""

    def __init__(self, path: str) -> None:
        self._list = read_word_list(WordListConfig(name="toxicity", path=path), [Path.cwd()])

    def count(self, text: str) -> tuple[int, int]:
        """Words of the list in a text, and words of the text (a character each in scripts without spaces)."""
        return len(self._list.matches(text)), len(words(text))
