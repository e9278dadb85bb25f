"""Lines that say again what another line said: within a document, and across the corpus.

Within a document the first of equal lines stays. Across the corpus a line that stands in many different documents is
boilerplate: one document keeps it (that with the smallest hash, so the order of documents never shows), or none does.
Which lines these are is counted in a pass of its own: `corpus/frequent_lines.py`.
"""

from __future__ import annotations

import hashlib

from pydantic import Field

from groundup.config import Config
from groundup.corpus.clean.frequent import FrequentLines
from groundup.corpus.clean.text import Edited, Outcome, Text


class LinesConfig(Config):
    """Removal of repeated lines; equal means equal but for white space at the ends and runs of it."""

    within_document: bool = True
    """Of equal lines in one document only the first stays."""
    across_documents: int = Field(default=0, ge=0)
    """A line that stands in at least this many different documents is removed (0: never; needs a pass more)."""
    keep_one: bool = True
    """Of a line removed across documents, one document keeps it."""
    min_characters: int = Field(default=20, ge=1)
    """Shorter lines are let alone (half of it for Chinese, Japanese and Korean)."""


def line_hash(line: str) -> int:
    """64-bit hash of a line without the white space at its ends, runs of white space as one space."""
    normal = " ".join(line.split()).encode()
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "little")


def is_long_enough(line: str, min_characters: int) -> bool:
    """Whether a line is long enough to be compared."""
    return len(line) >= min_characters or (2 * len(line) >= min_characters and not line.isascii())


def repeated_lines(config: LinesConfig, frequent: FrequentLines | None, text: Text) -> Outcome:
    """The text without lines that stood before in it, or that are frequent in the corpus."""
    lines = text.string.split("\n")
    kept = lines
    counts: dict[str, int] = {}
    if config.within_document:
        kept = _first_of_equal(kept, config.min_characters)
        _count(counts, "repeated lines: within the document", len(lines) - len(kept))
    if frequent is not None:
        before = len(kept)
        kept = _not_frequent(kept, config.min_characters, frequent, text)
        _count(counts, "repeated lines: frequent in the corpus", before - len(kept))
    return Edited("\n".join(kept), counts) if counts else None


def _first_of_equal(lines: list[str], min_characters: int) -> list[str]:
    seen: set[str] = set()
    kept = []
    for line in lines:
        if is_long_enough(line, min_characters):
            normal = " ".join(line.split())
            if normal in seen:
                continue
            seen.add(normal)
        kept.append(line)
    return kept


def _not_frequent(lines: list[str], min_characters: int, frequent: FrequentLines, text: Text) -> list[str]:
    places = [place for place, line in enumerate(lines) if is_long_enough(line, min_characters)]
    unwanted = frequent.contain([line_hash(lines[place]) for place in places], document_hash(text.string))
    gone = {place for place, is_frequent in zip(places, unwanted) if is_frequent}
    return [line for place, line in enumerate(lines) if place not in gone] if gone else lines


def document_hash(string: str) -> int:
    """64-bit hash that stands for a document while its lines are counted."""
    return int.from_bytes(hashlib.blake2b(string.encode(), digest_size=8).digest(), "little")


def _count(counts: dict[str, int], name: str, amount: int) -> None:
    if amount:
        counts[name] = amount
