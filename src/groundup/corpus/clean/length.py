"""Length in characters: the last rule, so that what others left is measured."""

from __future__ import annotations

from groundup.corpus.clean.text import Dropped, Outcome, Text


def length(min_characters: int, max_characters: int, text: Text) -> Outcome:
    """Drops what is empty, too short or too long (0: no limit), without the white space around."""
    count = len(text.string.strip())
    if not count:
        return Dropped("empty after cleaning")
    if count < min_characters:
        return Dropped("shorter than min_characters", count, min_characters)
    if max_characters and count > max_characters:
        return Dropped("longer than max_characters", count, max_characters)
    return None
