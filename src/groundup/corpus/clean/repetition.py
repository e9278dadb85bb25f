"""Gopher's repetition filters: Rae et al. 2021, table A1 (arXiv:2112.11446): text that repeats itself goes.

Fractions are of all characters of the document. The most frequent n-gram counts with all its occurrences; a repeated
n-gram counts from its second occurrence on, without overlaps. In scripts without spaces an n-gram of n words becomes
one of 1.6 n characters; thresholds for Chinese, Japanese and Korean are FineWeb-2's (Penedo et al. 2025,
arXiv:2506.20920).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from groundup.config import Config
from groundup.corpus.clean import scripts
from groundup.corpus.clean.text import Dropped, Outcome, Text
from groundup.corpus.clean.words import mix

_PARAGRAPH = re.compile(r"\n{2,}")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
Bounds = tuple[tuple[int, float], ...]


class RepetitionThresholds(Config):
    """Table A1's bounds for one language; 0 or an empty list switches a bound off."""

    max_duplicate_lines: float = Field(default=0.30, ge=0, le=1)
    """Fraction of lines that an earlier line equals."""
    max_duplicate_paragraphs: float = Field(default=0.30, ge=0, le=1)
    """Fraction of paragraphs that an earlier one equals."""
    max_duplicate_line_characters: float = Field(default=0.20, ge=0, le=1)
    """Fraction of the characters that lies in such lines."""
    max_duplicate_paragraph_characters: float = Field(default=0.20, ge=0, le=1)
    """Fraction of the characters that lies in such paragraphs."""
    top_ngrams: Bounds = ((2, 0.20), (3, 0.18), (4, 0.16))
    """Words of an n-gram, and the fraction of the characters that its most frequent one may take."""
    duplicate_ngrams: Bounds = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    """Words of an n-gram, and the fraction of the characters that repeated ones may take."""


_LANGUAGES = {
    "zh": RepetitionThresholds(
        max_duplicate_lines=0.287,
        top_ngrams=((2, 0.256), (3, 0.201), (4, 0.171)),
        duplicate_ngrams=((5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127)),
    ),
    "ja": RepetitionThresholds(
        max_duplicate_lines=0.375,
        top_ngrams=((2, 0.121), (3, 0.129), (4, 0.145)),
        duplicate_ngrams=((5, 0.307), (6, 0.283), (7, 0.264), (8, 0.248), (9, 0.234), (10, 0.223)),
    ),
    "ko": RepetitionThresholds(
        max_duplicate_lines=0.374,
        top_ngrams=((2, 0.282), (3, 0.228), (4, 0.185)),
        duplicate_ngrams=((5, 0.201), (6, 0.184), (7, 0.168), (8, 0.154), (9, 0.14), (10, 0.127)),
    ),
}


class RepetitionConfig(RepetitionThresholds):
    """Gopher's repetition filters (Rae et al. 2021, table A1), for English and every language without its own."""

    languages: dict[str, RepetitionThresholds] = _LANGUAGES
    """Bounds by language (`zh`, `ja`, `ko` from FineWeb-2); giving this replaces the whole mapping."""


def repetition(config: RepetitionConfig, text: Text) -> Outcome:
    """All of Gopher's repetition filters; the first that fails drops the document."""
    bounds = config.languages.get(text.language, config)
    return _pieces(bounds, text) or _ngrams(bounds, text)


def duplicates(pieces: Iterable[str]) -> tuple[int, int]:
    """How many pieces equal an earlier one, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            characters += len(piece)
        else:
            seen.add(piece)
    return count, characters


def _pieces(bounds: RepetitionThresholds, text: Text) -> Dropped | None:
    size = max(len(text.string), 1)
    kinds = (
        (
            "paragraph",
            _PARAGRAPH.split(text.string.strip()),
            bounds.max_duplicate_paragraphs,
            bounds.max_duplicate_paragraph_characters,
        ),
        (
            "line",
            [line for line in text.lines if line],
            bounds.max_duplicate_lines,
            bounds.max_duplicate_line_characters,
        ),
    )
    for name, pieces, max_count, max_characters in kinds:
        count, characters = duplicates(pieces)
        if max_count and count / max(len(pieces), 1) > max_count:
            return Dropped(f"repetition: duplicate {name}s", count / len(pieces), max_count)
        if max_characters and characters / size > max_characters:
            return Dropped(f"repetition: characters in duplicate {name}s", characters / size, max_characters)
    return None


def _ngrams(bounds: RepetitionThresholds, text: Text) -> Dropped | None:
    grams = _Grams(text)
    for words, bound in sorted(bounds.top_ngrams):
        share = grams.top_share(words, bound)
        if share > bound:
            return Dropped(f"repetition: most frequent {words}-gram", share, bound)
    if not bounds.duplicate_ngrams:
        return None
    lowest = min(bound for _, bound in bounds.duplicate_ngrams)
    if grams.repeated_share_at_most(min(words for words, _ in bounds.duplicate_ngrams)) <= lowest:
        return None
    for words, bound in sorted(bounds.duplicate_ngrams):
        share = grams.repeated_share(words)
        if share > bound:
            return Dropped(f"repetition: repeated {words}-grams", share, bound)
    return None


class _Grams:
    """The n-grams of a text, longer ones made from shorter ones."""

    def __init__(self, text: Text) -> None:
        self._size = max(len(text.string), 1)
        self._scale = scripts.UNSPACED_CHARACTERS_PER_WORD if text.unspaced else 1.0
        self._space = 0 if text.unspaced else 1
        self._words = text.words.hashes
        self._ends = np.concatenate(([0], np.cumsum(text.words.lengths, dtype=np.int64)))
        self._hashes = self._words
        self._order = 1

    def _ngrams(self, words: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], int]:
        """Hash and number of characters (spaces not counted) of each n-gram, and n."""
        order = round(words * self._scale)
        if order < self._order:
            self._hashes, self._order = self._words, 1
        count = len(self._words) - order + 1
        if count <= 0:
            return self._words[:0], self._ends[:0], order
        while self._order < order:
            following = self._words[self._order :]
            self._hashes = mix((self._hashes[: len(following)] * _MULTIPLIER) ^ following)
            self._order += 1
        return self._hashes, self._ends[order:] - self._ends[:-order], order

    def top_share(self, words: int, bound: float) -> float:
        """Share of the characters in the most frequent n-gram (of several the first); exact above `bound`."""
        hashes, lengths, order = self._ngrams(words)
        if not len(hashes):
            return 0.0
        ordered = np.sort(hashes)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(starts, append=len(ordered))
        most = int(counts.max())
        spaces = (order - 1) * self._space
        at_most = most * (int(lengths.max()) + spaces) / self._size
        if at_most <= bound:
            return at_most
        first = int(np.isin(hashes, ordered[starts[counts == most]]).argmax())
        return most * (int(lengths[first]) + spaces) / self._size

    def repeated_share_at_most(self, words: int) -> float:
        """An upper bound of `repeated_share` for n-grams of this many words and all longer ones.

        A repeated n-gram consists of repeated m-grams for every m < n, so it lies in what those cover.
        """
        hashes, lengths, order = self._ngrams(words)
        if not len(hashes):
            return 0.0
        ordered = np.sort(hashes)
        repeats = int((ordered[1:] == ordered[:-1]).sum())
        share = repeats * int(lengths.max()) / self._size
        if share <= 0.05:
            return share
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=np.int64)
        again[first] = 0
        edges = np.zeros(len(self._words) + 1, dtype=np.int64)
        edges[: len(again)] += again
        edges[order:] -= again
        covered = np.cumsum(edges[:-1]) > 0
        return int(np.diff(self._ends)[covered].sum()) / self._size

    def repeated_share(self, words: int) -> float:
        """Share of the characters in n-grams that occurred before, without overlaps, from left to right."""
        hashes, lengths, order = self._ngrams(words)
        every, sizes = hashes.tolist(), lengths.tolist()
        seen: set[int] = set()
        characters = index = 0
        while index < len(every):
            if every[index] in seen:
                characters += sizes[index]
                index += order
            else:
                seen.add(every[index])
                index += 1
        return characters / self._size
