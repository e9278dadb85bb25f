"""A text -> what of it is compared: the hash of its normal form, and hashes of runs of its words.

    text -> normal form -> 128-bit hash                          equal texts but for case and white space
         -> tokens -> token hashes -> windows -> shingle set     the sets whose Jaccard similarity is meant

A token is a word in lower case, or one character of a script that is written without spaces. Invariant: hashes depend
on the text only, so they are the same in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.clean.scripts import UNSPACED_CLASS

_SLICE_CHARACTERS = 1 << 20
_WORDS_LIMIT = 1 << 18

TOKEN = re.compile(rf"[{UNSPACED_CLASS}]|[^\W{UNSPACED_CLASS}]+")
"""One token of a text in lower case."""
UNSPACED = re.compile(f"[{UNSPACED_CLASS}]")
"""One character of a script that is written without spaces."""
_ASCII_WORDS = bytes(byte if chr(byte).isalnum() or byte == 95 else 32 for byte in range(128)).lower().ljust(256)
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


class TokenHashes(dict[bytes | str, int]):
    """token -> 64-bit hash, the same in every process and for text and bytes; remembers up to a limit."""

    def __missing__(self, token: bytes | str) -> int:
        if len(self) >= _WORDS_LIMIT:
            self.clear()
        data = token.encode() if isinstance(token, str) else token
        value = self[token] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        return value

    def of(self, text: str) -> NDArray[np.uint64]:
        """The hashes of a text's tokens, in order."""
        text = composed(text)
        parts = []
        for start in range(0, len(text), _SLICE_CHARACTERS):
            found = _tokens(text[start : start + _SLICE_CHARACTERS])
            parts.append(np.fromiter(map(self.__getitem__, found), dtype=np.uint64, count=len(found)))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _tokens(text: str) -> list[Any]:
    """Words in lower case, single characters in scripts without spaces; bytes for ASCII, which is faster."""
    return text.encode().translate(_ASCII_WORDS).split() if text.isascii() else TOKEN.findall(text.lower())


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
