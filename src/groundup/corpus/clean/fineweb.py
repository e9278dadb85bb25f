"""FineWeb's own filters: Penedo et al. 2024, section 3.5 (arXiv:2406.17557), as datatrove has them.

Lists, menus and pages without sentences go: few lines that end in a mark, many short lines, many characters in repeated
lines, many line breaks for the number of words. Chinese, Japanese and Korean take FineWeb-2's bounds for marks and line
breaks; a short line there is one of 10 characters, which say about as much as 30 Latin ones.
"""

from __future__ import annotations

from pydantic import Field

from groundup.config import Config
from groundup.corpus.clean import scripts
from groundup.corpus.clean.repetition import duplicates
from groundup.corpus.clean.scripts import LETTER, NUMBER, SYMBOL, UNSPACED
from groundup.corpus.clean.text import Dropped, Outcome, Text

_ENDS = (*scripts.TERMINAL, *scripts.UNSPACED_ENDS)


class FineWebThresholds(Config):
    """FineWeb's bounds for one language; 0 switches a bound off."""

    min_lines_with_mark: float = Field(default=0.12, ge=0, le=1)
    """Fraction of lines that end in terminal punctuation, at least."""
    max_short_lines: float = Field(default=0.67, ge=0, le=1)
    """Fraction of lines of at most `short_line_characters`."""
    short_line_characters: int = Field(default=30, ge=0)
    """What a short line is."""
    max_duplicate_line_characters: float = Field(default=0.01, ge=0, le=1)
    """Fraction of the characters in lines that an earlier line equals."""
    max_line_breaks: float = Field(default=0.3, ge=0)
    """Line breaks for each word, symbols counted as words."""


_LANGUAGES = {
    "zh": FineWebThresholds(min_lines_with_mark=0.106, max_line_breaks=0.178, short_line_characters=10),
    "ja": FineWebThresholds(min_lines_with_mark=0.167, max_line_breaks=0.162, short_line_characters=10),
    "ko": FineWebThresholds(min_lines_with_mark=0.062, max_line_breaks=0.196, short_line_characters=15),
}


class FineWebConfig(FineWebThresholds):
    """FineWeb's own filters (Penedo et al. 2024); the bounds are for English and every language without its own."""

    languages: dict[str, FineWebThresholds] = _LANGUAGES
    """Bounds by language (`zh`, `ja`, `ko` from FineWeb-2); giving this replaces the whole mapping."""


def fineweb(config: FineWebConfig, text: Text) -> Outcome:
    """All of FineWeb's own filters; the first that fails drops the document."""
    bounds = config.languages.get(text.language, config)
    lines = text.filled_lines
    if not lines:
        return Dropped("empty after cleaning")
    with_mark = sum(line.rstrip().endswith(_ENDS) for line in lines) / len(lines)
    if with_mark < bounds.min_lines_with_mark:
        return Dropped("fineweb: few lines with terminal punctuation", with_mark, bounds.min_lines_with_mark)
    short = sum(len(line) <= bounds.short_line_characters for line in lines) / len(lines)
    if bounds.max_short_lines and short > bounds.max_short_lines:
        return Dropped("fineweb: many short lines", short, bounds.max_short_lines)
    breaks = text.string.count("\n")
    repeated = duplicates(lines)[1] / (len(text.string) - breaks)
    if bounds.max_duplicate_line_characters and repeated > bounds.max_duplicate_line_characters:
        return Dropped("fineweb: characters in duplicate lines", repeated, bounds.max_duplicate_line_characters)
    per_word = breaks / max(text.words.equivalent((LETTER, NUMBER, UNSPACED, SYMBOL)), 1)
    if bounds.max_line_breaks and per_word > bounds.max_line_breaks:
        return Dropped("fineweb: many line breaks", per_word, bounds.max_line_breaks)
    return None
