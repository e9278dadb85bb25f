"""A text -> what of it is compared: the hash of its normal form, and hashes of runs of its words.

    text -> normal form -> 128-bit hash                          equal texts but for case and white space
         -> tokens -> token hashes -> windows -> shingle set     the sets whose Jaccard similarity is meant

A token is a word in lower case, or one character of a script that is written without spaces. Invariant: hashes depend
on the text only, so they are the same in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.clean.scripts import UNSPACED_CLASS, UNSPACED_RANGES
from groundup.corpus.duplicates.hashing import FACTOR, INVERSE, mixed, powers

_SLICE_CHARACTERS = 1 << 18
_SPACE, _WORD, _ALONE = 32, 1, 2

TOKEN = re.compile(rf"[{UNSPACED_CLASS}]|[^\W{UNSPACED_CLASS}]+")
"""One token of a text in lower case."""
UNSPACED = re.compile(f"[{UNSPACED_CLASS}]")
"""One character of a script that is written without spaces."""
_ASCII_WORDS = bytes(byte if chr(byte).isalnum() or byte == 95 else _SPACE for byte in range(128)).lower().ljust(256)
"""Maps ASCII to what `TOKEN` sees: word characters in lower case, all others to spaces."""


def composed(text: str) -> str:
    """Unicode NFC, at next to no cost where the text is in that form."""
    return text if text.isascii() or unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def normal_hash(text: str) -> bytes:
    """128-bit BLAKE2b of the normal form: NFC, lower case, every run of white space one space, none at the ends."""
    hasher = hashlib.blake2b(digest_size=16)
    text = composed(text).lower()
    started = space = False
    for start in range(0, len(text), _SLICE_CHARACTERS):  # in slices: a list of all words would take ten times the text
        part = text[start : start + _SLICE_CHARACTERS]
        words = " ".join(part.split())
        if words:
            hasher.update((" " if started and (space or part[0].isspace()) else "").encode() + words.encode())
            started = True
        space = part[-1].isspace() or (space and not words)
    return hasher.digest()


def token_hashes(text: str) -> NDArray[np.uint64]:
    """64-bit hash of each token of a text, in order."""
    return token_hashes_of([text])[0]


def token_hashes_of(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    """The same of several texts: of many short ones at once it costs a fraction.

    A token of characters c(0), c(1), ... has the hash mixed(sum of c(k) * f^k modulo 2^64): differences of one running
    sum over all characters, so no token is ever an object of its own.
    """
    made: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)] * len(texts)
    plain = [i for i, text in enumerate(texts) if text.isascii() and len(text) <= _SLICE_CHARACTERS]
    if plain:
        joined = "\n".join([texts[i] for i in plain]).encode().translate(_ASCII_WORDS)
        characters = np.frombuffer(joined, dtype=np.uint8)
        inside = characters != _SPACE
        starts, stops = _borders(inside, inside)
        hashes = _hashes(characters, starts, stops)
        ends = np.cumsum([len(texts[i]) + 1 for i in plain])
        for i, part in zip(plain, np.split(hashes, np.searchsorted(starts, ends[:-1]))):
            made[i] = part
    for i in set(range(len(texts))) - set(plain):
        made[i] = _unicode_hashes(texts[i])
    return made


def _unicode_hashes(text: str) -> NDArray[np.uint64]:
    """Token hashes of any text, slice by slice; a slice ends between words where it can."""
    text = composed(text).lower()
    found, start = [], 0
    while start < len(text):
        stop = start + _SLICE_CHARACTERS
        if stop < len(text):
            space = text.rfind(" ", start, stop)
            stop = space if space > start else stop
        characters = np.frombuffer(text[start:stop].encode("utf-32-le", "surrogatepass"), dtype="<u4")
        kinds = _kinds()[characters]
        starts, stops = _borders(kinds > 0, kinds == _WORD)
        found.append(_hashes(characters, starts, stops))
        start = stop
    return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)


def _borders(inside: NDArray[np.bool_], word: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first characters, ends) of tokens: runs of characters of words, and every other character inside by itself."""
    if not len(inside):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first, last = inside.copy(), inside.copy()
    apart = ~(word[1:] & word[:-1])
    first[1:] &= apart
    last[:-1] &= apart
    return np.flatnonzero(first), np.flatnonzero(last) + 1


def _hashes(characters: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.uint64]:
    sums = np.zeros(len(characters) + 1, dtype=np.uint64)
    np.cumsum(characters * powers(FACTOR, len(characters)), out=sums[1:])
    return mixed((sums[stops] - sums[starts]) * powers(INVERSE, len(characters))[starts])


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """Of each code point: 0 between words, _WORD, or _ALONE (of a script without spaces)."""
    kinds = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    kinds[[ord("_"), *(code for code in range(sys.maxunicode + 1) if chr(code).isalnum())]] = _WORD
    for first, last in UNSPACED_RANGES:
        kinds[first : last + 1] = _ALONE
    return kinds


def excerpt(text: str, token: int, count: int) -> str:
    """The part of a text that spans `count` tokens from number `token` on."""
    found = list(islice(TOKEN.finditer(composed(text)), token, token + count))
    return found[0].string[found[0].start() : found[-1].end()] if found else ""


def windows(tokens: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """64-bit hash of each run of `size` tokens (of all tokens when there are fewer), in order, repeats included."""
    size = min(size, len(tokens))
    count = len(tokens) - size + 1 if size else 0
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        hashes ^= tokens[offset : offset + count]
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def windows_of_texts(texts: Sequence[NDArray[np.uint64]], size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(windows of all texts, one after another, where each text's begin and the end of the last), at one go."""
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    counts = np.where(lengths < size, np.minimum(lengths, 1), lengths - size + 1)
    offsets = np.append(0, np.cumsum(counts))
    every = windows(np.concatenate(texts), size)
    starts = np.repeat(np.cumsum(lengths) - lengths - offsets[:-1], counts) + np.arange(offsets[-1])
    found = every[np.minimum(starts, max(0, len(every) - 1))] if len(every) else np.zeros(offsets[-1], dtype=np.uint64)
    for i in np.flatnonzero((lengths > 0) & (lengths < size)).tolist():
        found[offsets[i]] = windows(texts[i], size)[0]
    return found, offsets


def shingle_set(tokens: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """The distinct window hashes of a text, ascending: the set whose Jaccard similarity counts."""
    return np.unique(windows(tokens, size))


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Jaccard similarity |A and B| / |A or B| of two shingle sets; 0 when both are empty."""
    if len(one) > len(other):
        one, other = other, one
    if not len(one):
        return 0.0
    places = np.searchsorted(other, one)
    common = int(np.count_nonzero(other[np.minimum(places, len(other) - 1)] == one))
    return common / (len(one) + len(other) - common)
