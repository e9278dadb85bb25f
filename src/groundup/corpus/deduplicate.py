"""Texts -> hashes and MinHash signatures -> clusters of exact and near-duplicates, of which one member is kept.

    text -> normal form -> 128-bit hash                                       equal: exact duplicates
         -> tokens -> shingles -> MinHash signature -> band keys -> buckets   alike enough: near-duplicates
                                                       pairs checked -> union-find -> clusters

Invariant: which text of a cluster is kept depends on the texts and their forced splits only, never on the order of
files, records or workers.

MinHash: Broder 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3.4.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rensa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup.config import Config

SIGNATURE_SEED = 1
KEPT, EXACT, NEAR = 0, 1, 2
"""Outcome codes of a document."""
_SLICE_CHARACTERS = 1 << 20
_WORDS_LIMIT = 1 << 20
_ROUNDS_LIMIT = 200
_GATHER_ROWS = 1 << 14

_UNSPACED = (  # scripts written without spaces: Thai to Khmer, kana, Han; each character is a token
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_ASCII_WORDS = bytes(byte if chr(byte).isalnum() or byte == 95 else 32 for byte in range(128)).lower().ljust(256)
"""Maps ASCII to what `_TOKEN` sees: word characters in lower case, all others to spaces."""


class DeduplicateConfig(Config):
    """Exact duplicates are always dropped; near-duplicates where `near` is set."""

    near: bool = True
    """Find near-duplicates too. Without it they may end up on two sides of the split."""
    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """Estimated Jaccard similarity of the shingle sets from which two documents count as the same."""
    num_perm: int = Field(default=120, ge=8, le=1024)
    """Length of a signature; the estimate's standard error is sqrt(s(1-s)/num_perm): 0.037 at s = 0.8."""
    bands: int = Field(default=20, ge=1, le=512)
    """Two documents are compared when they agree in a whole band; must divide num_perm."""
    shingle_tokens: int = Field(default=5, ge=1, le=50)
    """Length of a shingle in words (in characters for scripts without spaces)."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.num_perm % self.bands:
            raise ValueError(f"bands must divide num_perm = {self.num_perm}, for example 20 bands of 120")
        return self

    def chance_compared(self, similarity: float) -> float:
        """Probability that two documents of this Jaccard similarity are compared: 1 - (1 - s^rows)^bands."""
        return 1.0 - (1.0 - similarity ** (self.num_perm // self.bands)) ** self.bands


def normal_hash(text: str) -> bytes:
    """128-bit BLAKE2b of the normal form: NFC, lower case, every run of white space one space, none at the ends."""
    hasher = hashlib.blake2b(digest_size=16)
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    text = text.lower()
    started = space = False
    for start in range(0, len(text), _SLICE_CHARACTERS):  # in slices: a list of all words would take ten times the text
        part = text[start : start + _SLICE_CHARACTERS]
        words = " ".join(part.split())
        if words:
            hasher.update((" " if started and (space or part[0].isspace()) else "").encode() + words.encode())
            started = True
        space = part[-1].isspace() or (space and not words)
    return hasher.digest()


class _Words(dict[bytes | str, int]):
    """word -> 64-bit hash, the same in every process and for text and bytes; remembers up to a limit."""

    def __missing__(self, word: bytes | str) -> int:
        if len(self) >= _WORDS_LIMIT:
            self.clear()
        data = word.encode() if isinstance(word, str) else word
        value = self[word] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        return value


class Signer:
    """Texts in, MinHash signatures out; signs in batches, because one call over many texts is far cheaper."""

    def __init__(self, config: DeduplicateConfig) -> None:
        self.config = config
        self.pending_shingles = 0
        self._words = _Words()
        self._shingles: list[NDArray[np.uint64]] = []

    def add(self, text: str) -> int:
        """Queue a text; returns its number of shingles (0: nothing to compare it by)."""
        shingles = shingle_hashes(text, self.config.shingle_tokens, self._words)
        self._shingles.append(shingles)
        self.pending_shingles += len(shingles)
        return len(shingles)

    def take(self) -> NDArray[np.uint32]:
        """Signatures [texts, num_perm] of all queued texts, in order."""
        if not self._shingles:
            return np.zeros((0, self.config.num_perm), dtype=np.uint32)
        offsets = np.cumsum([0] + [len(shingles) for shingles in self._shingles]).tolist()
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(self._shingles), offsets, self.config.num_perm, SIGNATURE_SEED
        )
        self._shingles, self.pending_shingles = [], 0
        return np.array(matrix.to_rows(), dtype=np.uint32)


def shingle_hashes(text: str, size: int, words: _Words | None = None) -> NDArray[np.uint64]:
    """64-bit hash of each run of `size` tokens (of all tokens when there are fewer), in order, repeats included."""
    known = _Words() if words is None else words
    parts = []
    for start in range(0, len(text), _SLICE_CHARACTERS):
        found = _tokens(text[start : start + _SLICE_CHARACTERS])
        parts.append(np.fromiter(map(known.__getitem__, found), dtype=np.uint64, count=len(found)))
    tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
    size = min(size, len(tokens))
    count = len(tokens) - size + 1 if size else 0
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        hashes = (hashes ^ tokens[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _tokens(text: str) -> list[Any]:
    """Words in lower case, single characters in scripts without spaces; bytes for ASCII, which is faster."""
    return text.encode().translate(_ASCII_WORDS).split() if text.isascii() else _TOKEN.findall(text.lower())


@dataclass(frozen=True)
class Duplicates:
    """For each document: `outcome` KEPT, EXACT or NEAR, and `kept` the index of the document that stands for it."""

    outcome: NDArray[np.uint8]
    kept: NDArray[np.int64]
    unchecked: int
    """Documents in buckets so large that not all pairs were compared."""


def find_duplicates(
    exact: NDArray[np.uint64],
    content: NDArray[np.uint64],
    priority: NDArray[np.uint8],
    signatures: NDArray[np.uint32] | None,
    has_shingles: NDArray[np.bool_],
    config: DeduplicateConfig,
) -> Duplicates:
    """Clusters of documents and the one of each to keep: lowest `priority`, then lowest content hash, then first.

    `exact` and `content` are [documents, 2], `signatures` [documents, num_perm] (may be a memory map; None: exact
    duplicates only). Memory: about 100 bytes a document beside the arguments.
    """
    order = np.lexsort((content[:, 1], content[:, 0], priority))  # stable: ties keep the order of the documents
    first_of = _exact_groups(exact[order])
    clusters = _Clusters(first_of.copy())
    unchecked = 0
    if signatures is not None and len(order):
        alone = np.flatnonzero((first_of == np.arange(len(order))) & has_shingles[order])
        unchecked = _join_near(clusters, alone, order, signatures, config)
    root = clusters.roots(np.arange(len(order)))
    outcome = np.full(len(order), KEPT, dtype=np.uint8)
    outcome[root != np.arange(len(order))] = NEAR
    outcome[first_of != np.arange(len(order))] = EXACT
    result = Duplicates(np.empty_like(outcome), np.empty(len(order), dtype=np.int64), unchecked)
    result.outcome[order] = outcome
    result.kept[order] = order[root]
    return result


def _exact_groups(exact: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first row with the same hash."""
    by_hash = np.lexsort((np.arange(len(exact)), exact[:, 1], exact[:, 0]))
    ordered = exact[by_hash]
    starts = np.ones(len(exact), dtype=bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(exact), dtype=np.int64)
    first[by_hash] = by_hash[np.maximum.accumulate(np.where(starts, np.arange(len(exact)), 0))]
    return first


class _Clusters:
    """Union-find whose root is always the smallest index."""

    def __init__(self, parent: NDArray[np.int64]) -> None:
        self._parent = parent

    def find(self, index: int) -> int:
        parent = self._parent
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    def join(self, one: int, other: int) -> None:
        one, other = self.find(one), self.find(other)
        self._parent[max(one, other)] = min(one, other)

    def roots(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The root of each index."""
        found = self._parent[indices]
        while not np.array_equal(further := self._parent[found], found):
            found = further
        return found


def _join_near(
    clusters: _Clusters,
    alone: NDArray[np.int64],
    order: NDArray[np.int64],
    signatures: NDArray[np.uint32],
    config: DeduplicateConfig,
) -> int:
    """Join all documents of `alone` (positions in `order`) that share a band and are similar; returns the unchecked."""
    rows = config.num_perm // config.bands
    unchecked = 0
    for band in range(config.bands):
        keys = _band_keys(signatures, band * rows, rows)[order[alone]]
        by_key = np.argsort(keys, kind="stable")
        ordered = keys[by_key]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
        ends = np.r_[starts[1:], len(ordered)]
        for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1]):
            unchecked += _join_bucket(clusters, alone[by_key[start:end]], order, signatures, config)
    return unchecked


def _band_keys(signatures: NDArray[np.uint32], first: int, rows: int) -> NDArray[np.uint64]:
    """One 64-bit key a document over `rows` columns from `first`, without copying all signatures at once."""
    keys = np.zeros(len(signatures), dtype=np.uint64)
    for start in range(0, len(signatures), 1 << 16):
        block = signatures[start : start + (1 << 16), first : first + rows].astype(np.uint64)
        for column in range(rows):
            part = (keys[start : start + len(block)] ^ block[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            keys[start : start + len(block)] = part ^ (part >> np.uint64(31))
    return keys


def _join_bucket(
    clusters: _Clusters,
    members: NDArray[np.int64],
    order: NDArray[np.int64],
    signatures: NDArray[np.uint32],
    config: DeduplicateConfig,
) -> int:
    """Compare each member with all later ones that are not in its cluster yet, until all are in one.

    `members` ascend, so the outcome follows the content order. Returns how many never were compared with all others.
    """
    for position in range(min(len(members) - 1, _ROUNDS_LIMIT)):
        roots = clusters.roots(members)
        others = members[position + 1 :][roots[position + 1 :] != roots[position]]
        if len(others):
            alike = _similarity(signatures, int(order[members[position]]), order[others]) >= config.threshold
            for member in others[alike]:
                clusters.join(int(members[position]), int(member))
        elif (roots == roots[position]).all():
            return 0
    return max(0, len(members) - 1 - _ROUNDS_LIMIT)


def _similarity(signatures: NDArray[np.uint32], one: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of equal signature entries: an unbiased estimate of the Jaccard similarity."""
    parts = [
        (signatures[others[start : start + _GATHER_ROWS]] == signatures[one]).mean(axis=1)
        for start in range(0, len(others), _GATHER_ROWS)
    ]
    return np.concatenate(parts)


def similarity(signatures: Any, one: int, other: int) -> float:
    """Estimated Jaccard similarity of two documents."""
    return float(_similarity(signatures, one, np.array([other]))[0])
