"""Texts of evaluation sets -> an index of their n-grams on disk -> which of them a document holds.

    text --tokens--> windows of n tokens --64-bit hashes--> ngrams.npy (sorted)  owners.npy (text of each)
    document --windows of each length in the index--> a table of bits rules out nearly all --> search in ngrams.npy

A text of fewer than n tokens is looked for whole, by windows of `short` = 0.6 n tokens that must all be found; with
fewer than that it cannot be told from chance and is counted as too short.

Invariant: what a document is found to hold depends on the document and the texts only; memory is two bytes an n-gram
beside the files, which all processes read through one cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.duplicates.hashing import FACTOR, INVERSE, mixed, powers
from groundup.corpus.duplicates.shingles import UNSPACED, token_hashes

NGRAM_LIMIT = 1 << 24
"""N-grams in one index; about 100 MB of text."""
_BITS_PER_NGRAM = 16
_SLICE_TOKENS = 1 << 18
NGRAMS, OWNERS, TEXTS = "ngrams.npy", "owners.npy", "texts.npy"

TEXT = np.dtype([("set", "<u4"), ("example", "<u4"), ("ngrams", "<u4"), ("needed", "<u4"), ("size", "<u4")])
"""A text: its set, its example, its number of distinct n-grams, how many a document must hold, their length."""


@dataclass(frozen=True)
class Lengths:
    """What counts as the same text in a set."""

    words: int
    characters: int
    min_overlap: float

    def of(self, text: str, tokens: int) -> tuple[int, bool]:
        """(length of the windows by which a text is looked for, 0: too short; whether all of them must be found)."""
        unspaced = len(UNSPACED.findall(text)) * 2 > tokens
        size = self.characters if unspaced else self.words
        short = -(-size * 6 // 10)
        return (size, False) if tokens >= size else (short, True) if tokens >= short else (0, True)

    def needed(self, ngrams: int, whole: bool) -> int:
        """How many of a text's n-grams a document must hold."""
        return ngrams if whole else max(1, math.ceil(self.min_overlap * ngrams - 1e-9))


class IndexWriter:
    """Takes texts; `close` writes the index."""

    def __init__(self, folder: Path) -> None:
        self.ngrams = 0
        self._folder = folder
        self._windows: list[NDArray[np.uint64]] = []
        self._texts: list[tuple[int, int, int, int, int]] = []

    def add(self, text: str, set_number: int, example: int, lengths: Lengths) -> bool:
        """Add a text of an example; False when it is too short to be looked for."""
        tokens = token_hashes(text)
        size, whole = lengths.of(text, len(tokens))
        if not size:
            return False
        windows = np.unique(np.concatenate([found for _, _, found in windows_of(tokens, [size])]))
        self._texts.append((set_number, example, len(windows), lengths.needed(len(windows), whole), size))
        self._windows.append(windows)
        self.ngrams += len(windows)
        return True

    def close(self) -> None:
        """Write the index's files."""
        texts = np.array(self._texts, dtype=TEXT)
        windows = np.concatenate([np.zeros(0, dtype=np.uint64), *self._windows])
        order = np.argsort(windows, kind="stable")
        np.save(self._folder / NGRAMS, windows[order])
        np.save(self._folder / OWNERS, np.repeat(np.arange(len(texts), dtype=np.uint32), texts["ngrams"])[order])
        np.save(self._folder / TEXTS, texts)


def windows_of(tokens: NDArray[np.uint64], sizes: Sequence[int]) -> Iterator[tuple[int, int, NDArray[np.uint64]]]:
    """(size, first token, hash of each run of exactly `size` tokens from there on), for all sizes, slice by slice.

    The hash of tokens t(0) to t(n-1) is the sum of t(k) * f^k modulo 2^64, mixed with n: runs of any length are
    differences of one running sum.
    """
    for start in range(0, len(tokens), _SLICE_TOKENS):
        part = tokens[start : start + _SLICE_TOKENS + max(sizes) - 1]
        sums = np.zeros(len(part) + 1, dtype=np.uint64)
        np.cumsum(part * powers(FACTOR, len(part)), out=sums[1:])
        for size in sizes:
            count = max(0, min(len(part) - size + 1, _SLICE_TOKENS))
            differences = sums[size : size + count] - sums[:count]
            yield size, start, mixed(differences * powers(INVERSE, count) ^ np.uint64(size))


@dataclass(frozen=True)
class Hit:
    """A text of an evaluation set that a document holds."""

    set: int
    example: int
    overlap: float
    """Share of the text's n-grams that the document holds."""
    token: int
    """Where in the document (in tokens) the first of them begins."""
    size: int
    """Its length in tokens."""


class Index:
    """A finished index, in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._texts: NDArray[Any] = np.load(folder / TEXTS)
        mode: Literal["r"] | None = "r" if len(self._texts) else None  # an empty file cannot be mapped
        self._ngrams: NDArray[np.uint64] = np.load(folder / NGRAMS, mmap_mode=mode)
        self._owners: NDArray[np.uint32] = np.load(folder / OWNERS, mmap_mode=mode)
        self._sizes = np.unique(self._texts["size"]).tolist()
        self._shift = np.uint64(64 - max(3, (len(self._ngrams) * _BITS_PER_NGRAM).bit_length()))
        self._bits = np.zeros(1 << (61 - int(self._shift)), dtype=np.uint8)
        for start in range(0, len(self._ngrams), _SLICE_TOKENS):
            byte, bit = self._place(np.asarray(self._ngrams[start : start + _SLICE_TOKENS]))
            np.bitwise_or.at(self._bits, byte, bit)

    def hits(self, tokens: NDArray[np.uint64]) -> list[Hit]:
        """The texts that a document with these token hashes holds, by set and example."""
        if not self._sizes or len(tokens) < self._sizes[0]:
            return []
        places: dict[int, dict[int, int]] = {}
        for _, start, found in windows_of(tokens, self._sizes):
            maybe = np.flatnonzero(self._may_hold(found))
            if len(maybe):
                self._collect(found[maybe], start + maybe, places)
        return sorted(self._hits(places), key=lambda hit: (hit.set, hit.example, -hit.overlap))

    def _place(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        number = hashes >> self._shift
        return (number >> np.uint64(3)).astype(np.int64), np.uint8(1) << (number & np.uint64(7)).astype(np.uint8)

    def _may_hold(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        byte, bit = self._place(hashes)
        return np.asarray((self._bits[byte] & bit) != 0)

    def _collect(
        self, hashes: NDArray[np.uint64], positions: NDArray[np.int64], places: dict[int, dict[int, int]]
    ) -> None:
        """Add, for each text, the n-grams found and where each first stands."""
        first = np.searchsorted(self._ngrams, hashes, side="left")
        last = np.searchsorted(self._ngrams, hashes, side="right")
        for i in np.flatnonzero(last > first).tolist():
            for owner in self._owners[first[i] : last[i]].tolist():
                places.setdefault(owner, {}).setdefault(int(hashes[i]), int(positions[i]))

    def _hits(self, places: dict[int, dict[int, int]]) -> Iterable[Hit]:
        for owner, found in places.items():
            text = self._texts[owner]
            if len(found) >= int(text["needed"]):
                share = len(found) / int(text["ngrams"])
                yield Hit(int(text["set"]), int(text["example"]), share, min(found.values()), int(text["size"]))
