"""Gopher's quality filters: Rae et al. 2021, Scaling Language Models, appendix A1.1 (arXiv:2112.11446).

Thresholds are the paper's; what counts as a word, symbols as words of their own included, follows datatrove, whose
reading of the paper made FineWeb. For Chinese, Japanese and Korean the thresholds are those of FineWeb-2's configs
(Penedo et al. 2025, arXiv:2506.20920), with `scripts.UNSPACED_CHARACTERS_PER_WORD` characters counted as a word.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from pydantic import Field

from groundup.config import Config
from groundup.corpus.clean import scripts
from groundup.corpus.clean.scripts import LETTER, NUMBER, SYMBOL, UNSPACED
from groundup.corpus.clean.stop_words import STOP_WORDS
from groundup.corpus.clean.text import Dropped, Outcome, Text
from groundup.corpus.clean.words import word_hash

_ELLIPSES = ("...", "…")
_MIN_STOP_WORDS_OF_OTHERS = 5
"""Stop words of one other language that a text must have whose language is not known: lists share some short words."""


class GopherThresholds(Config):
    """Gopher's bounds for one language; 0 switches a bound off."""

    min_words: int = Field(default=50, ge=0)
    """Words without symbols, at least (1.6 characters are a word in scripts without spaces)."""
    max_words: int = Field(default=100_000, ge=0)
    """Words without symbols, at most."""
    min_mean_word_length: float = Field(default=3.0, ge=0)
    """Mean length of words in characters, at least (not asked where most words are single unspaced characters)."""
    max_mean_word_length: float = Field(default=10.0, ge=0)
    """Mean length of words in characters, at most."""
    max_hash_ratio: float = Field(default=0.1, ge=0)
    """Hash signs for each word."""
    max_ellipsis_ratio: float = Field(default=0.1, ge=0)
    """Ellipses for each word."""
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    """Fraction of lines that begin with a bullet or a dash."""
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    """Fraction of lines that end with an ellipsis."""
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    """Fraction of words, symbols counted as words, that hold a letter."""
    min_stop_words: int = Field(default=2, ge=0)
    """Different stop words, at least."""
    stop_words: tuple[str, ...] = ()
    """Empty: the list of the document's language; languages without a list are not asked."""


_LANGUAGES = {
    "zh": GopherThresholds(min_mean_word_length=1.0, max_mean_word_length=5.0, min_alphabetic_words=0.735),
    "ja": GopherThresholds(min_mean_word_length=1.0, max_mean_word_length=5.0, min_alphabetic_words=0.759),
    "ko": GopherThresholds(min_mean_word_length=1.0, max_mean_word_length=6.0, min_alphabetic_words=0.791),
}


class GopherConfig(GopherThresholds):
    """Gopher's quality filters (Rae et al. 2021); the bounds are for English and every language without its own."""

    languages: dict[str, GopherThresholds] = _LANGUAGES
    """Bounds by language (`zh`, `ja`, `ko` from FineWeb-2); giving this replaces the whole mapping."""


def gopher(config: GopherConfig, text: Text) -> Outcome:
    """All of Gopher's quality filters; the first that fails drops the document."""
    bounds = config.languages.get(text.language, config)
    for check in (_size, _word_length, _symbols, _line_marks, _letters, _stop_words):
        dropped = check(bounds, text)
        if dropped:
            return dropped
    return None


def _size(bounds: GopherThresholds, text: Text) -> Dropped | None:
    count = text.words.equivalent((LETTER, NUMBER, UNSPACED))
    if count < bounds.min_words:
        return Dropped("gopher: too few words", count, bounds.min_words)
    if bounds.max_words and count > bounds.max_words:
        return Dropped("gopher: too many words", count, bounds.max_words)
    return None


def _word_length(bounds: GopherThresholds, text: Text) -> Dropped | None:
    """Characters of all words proper, divided by their number; says nothing of text without spaces."""
    if text.unspaced:
        return None
    is_proper = text.words.kinds != SYMBOL
    mean = int(text.words.lengths[is_proper].sum()) / max(int(is_proper.sum()), 1)
    if mean < bounds.min_mean_word_length:
        return Dropped("gopher: words too short", mean, bounds.min_mean_word_length)
    if bounds.max_mean_word_length and mean > bounds.max_mean_word_length:
        return Dropped("gopher: words too long", mean, bounds.max_mean_word_length)
    return None


def _symbols(bounds: GopherThresholds, text: Text) -> Dropped | None:
    count = max(text.words.equivalent((LETTER, NUMBER, UNSPACED, SYMBOL)), 1)
    hashes = text.string.count("#") / count
    if bounds.max_hash_ratio and hashes > bounds.max_hash_ratio:
        return Dropped("gopher: too many hash signs", hashes, bounds.max_hash_ratio)
    ellipses = sum(map(text.string.count, _ELLIPSES)) / count
    if bounds.max_ellipsis_ratio and ellipses > bounds.max_ellipsis_ratio:
        return Dropped("gopher: too many ellipses", ellipses, bounds.max_ellipsis_ratio)
    return None


def _line_marks(bounds: GopherThresholds, text: Text) -> Dropped | None:
    lines = text.lines
    if bounds.max_bullet_lines:
        bullets = sum(line.lstrip().startswith(scripts.BULLETS) for line in lines) / max(len(lines), 1)
        if bullets > bounds.max_bullet_lines:
            return Dropped("gopher: too many bullet lines", bullets, bounds.max_bullet_lines)
    if bounds.max_ellipsis_lines and any(mark in text.string for mark in _ELLIPSES):
        ends = sum(line.rstrip().endswith(_ELLIPSES) for line in lines) / max(len(lines), 1)
        if ends > bounds.max_ellipsis_lines:
            return Dropped("gopher: too many lines that end in an ellipsis", ends, bounds.max_ellipsis_lines)
    return None


def _letters(bounds: GopherThresholds, text: Text) -> Dropped | None:
    share = text.words.equivalent((LETTER, UNSPACED)) / max(
        text.words.equivalent((LETTER, NUMBER, UNSPACED, SYMBOL)), 1
    )
    if share < bounds.min_alphabetic_words:
        return Dropped("gopher: too few words with letters", share, bounds.min_alphabetic_words)
    return None


def _stop_words(bounds: GopherThresholds, text: Text) -> Dropped | None:
    wanted = bounds.stop_words or STOP_WORDS.get(text.language, ())
    if not wanted or not bounds.min_stop_words:
        return None
    found = _found(wanted, text, bounds.min_stop_words)
    if found >= bounds.min_stop_words:
        return None
    if not bounds.stop_words and not text.identified and text.language == "en":  # so called for want of a better word
        enough = max(_MIN_STOP_WORDS_OF_OTHERS, bounds.min_stop_words)
        if any(_found(others, text, enough) >= enough for others in STOP_WORDS.values()):
            return None
    return Dropped("gopher: too few stop words", found, bounds.min_stop_words)


def _found(wanted: tuple[str, ...], text: Text, enough: int) -> int:
    """How many of the words the text has; counts no further than `enough`."""
    found = 0
    for stop_hash in _stop_hashes(wanted):
        found += bool((text.words.hashes == stop_hash).any())
        if found >= enough:
            break
    return found


@cache
def _stop_hashes(words: tuple[str, ...]) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(word_hash(word)) for word in words)
