"""Words that the user does not want: lists from files, one word or phrase a line, found at word boundaries.

Entries in scripts with spaces match whole words, also beside characters of scripts without spaces. Entries in scripts
without spaces match anywhere, for there are no boundaries; one of a single character only where it stands alone, for it
is a part of too many harmless words. Case does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from groundup.config import Config, Name, digest
from groundup.corpus.clean import scripts
from groundup.corpus.clean.text import Dropped, Edited, Outcome, Text
from groundup.corpus.named_files import read_named
from groundup.errors import DataError

_SPACED_WORD = re.compile(rf"[^\W{scripts.UNSPACED_CLASS}]+(?:['’-][^\W{scripts.UNSPACED_CLASS}]+)*")
_UNSPACED = re.compile(f"[{scripts.UNSPACED_CLASS}]")


class WordListConfig(Config):
    """A list of unwanted words, such as profanity, and what happens to documents that hold them."""

    name: Name
    """Name of the list in the report."""
    path: str
    """UTF-8 text, one word or phrase a line, `#` begins a comment; relative to the current or the recipe's folder."""
    action: Literal["drop", "mask"] = "drop"
    """Drop the document, or put `placeholder` in the place of each match."""
    max_matches: int = Field(default=0, ge=0)
    """Documents with more matches are dropped (C4 dropped at the first: Raffel et al. 2020)."""
    max_share: float = Field(default=0.0, ge=0, le=1)
    """Matches that make up no more than this fraction of the words are let pass as well."""
    placeholder: str = Field(default="***", max_length=60)
    """What stands in place of a masked match."""


@dataclass(frozen=True)
class WordList:
    """A list as read: its config and its entries in lower case."""

    config: WordListConfig
    entries: frozenset[str]

    def digest(self) -> str:
        """Hash of the entries."""
        return digest(sorted(self.entries))

    @cached_property
    def _by_first_word(self) -> dict[str, list[str]]:
        """First word of each entry in a script with spaces -> the entries, longest first."""
        table: dict[str, list[str]] = {}
        for entry in sorted(self.entries, key=lambda entry: (-len(entry), entry)):
            first = None if _UNSPACED.search(entry) else _SPACED_WORD.match(entry)
            if first:
                table.setdefault(first[0], []).append(entry)
        return table

    @cached_property
    def _by_first_character(self) -> dict[str, tuple[str, ...]]:
        """First character of each other entry -> the entries, longest first."""
        table: dict[str, tuple[str, ...]] = {}
        for entry in sorted(self.entries, key=lambda entry: (-len(entry), entry)):
            if _UNSPACED.search(entry) or not _SPACED_WORD.match(entry):
                table[entry[0]] = (*table.get(entry[0], ()), entry)
        return table

    @cached_property
    def _first_characters(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(character) for character in sorted(self._by_first_character)) or r"(?!)")

    def matches(self, string: str) -> list[tuple[int, int]]:
        """Start and end of each match in `string`, ascending and apart from each other."""
        lowered = string.lower()
        if len(lowered) != len(string):  # a few capitals become two characters in lower case: keep positions right
            lowered = "".join(low if len(low := character.lower()) == 1 else character for character in string)
        found = sorted([*self._spaced(lowered), *self._unspaced(lowered)], key=lambda span: (span[0], -span[1]))
        apart: list[tuple[int, int]] = []
        for start, end in found:
            if not apart or start >= apart[-1][1]:
                apart.append((start, end))
        return apart

    def _spaced(self, lowered: str) -> Iterator[tuple[int, int]]:
        if not self._by_first_word:
            return
        for word in _SPACED_WORD.finditer(lowered):
            for entry in self._by_first_word.get(word[0], ()):
                end = word.start() + len(entry)
                if lowered.startswith(entry, word.start()) and not _joins_word(lowered, end):
                    yield word.start(), end
                    break

    def _unspaced(self, lowered: str) -> Iterator[tuple[int, int]]:
        if not self._by_first_character or (
            lowered.isascii() and all(not key.isascii() for key in self._by_first_character)
        ):
            return
        for first in self._first_characters.finditer(lowered):
            for entry in self._by_first_character[first[0]]:
                end = first.start() + len(entry)
                if not lowered.startswith(entry, first.start()):
                    continue
                if len(entry) > 1 or not (_is_unspaced(lowered, first.start() - 1) or _is_unspaced(lowered, end)):
                    yield first.start(), end
                    break


def _joins_word(lowered: str, position: int) -> bool:
    return position < len(lowered) and _SPACED_WORD.match(lowered[position]) is not None


def _is_unspaced(lowered: str, position: int) -> bool:
    return 0 <= position < len(lowered) and _UNSPACED.match(lowered[position]) is not None


def read_word_list(config: WordListConfig, places: Iterable[Path]) -> WordList:
    """The list of the first place where its file is. Raises DataError when it is nowhere, not UTF-8 or empty."""
    path, lines = read_named(config.path, places, "word list", f"the path of corpus.clean.word_lists '{config.name}'")
    entries = frozenset(" ".join(line.lower().split()) for line in lines if line.strip() and not line.startswith("#"))
    if not entries:
        raise DataError(f"{path}: the word list is empty; give one word or phrase a line")
    return WordList(config, entries)


def word_list(words: WordList, text: Text) -> Outcome:
    """Drops a document that holds too many of the words, or masks them."""
    matches = words.matches(text.string)
    if not matches:
        return None
    config, count = words.config, len(matches)
    if config.action == "mask":
        pieces, position = [], 0
        for start, end in matches:
            pieces += [text.string[position:start], config.placeholder]
            position = end
        return Edited("".join([*pieces, text.string[position:]]), {f"word list {config.name}: masked": count})
    if count <= config.max_matches:
        return None
    if config.max_share:
        share = count / max(text.words.equivalent((scripts.LETTER, scripts.NUMBER, scripts.UNSPACED)), 1)
        return Dropped(f"word list {config.name}", share, config.max_share) if share > config.max_share else None
    return Dropped(f"word list {config.name}", count, config.max_matches)
