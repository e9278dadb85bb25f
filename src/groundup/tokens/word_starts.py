"""A tokenizer's tokens -> where words begin in a row of them, by two look-ups a token.

    " river" | "bank" | "'s" | " 北京" | "大" | "学" | "\\xe6\\x98"      word: river bank ; 's ; 北京 ; 大 ; 学 ...
       first       letter        space

A word begins at white space and where letters, digits and other marks meet. In scripts that put no spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) every token begins one: the strings that the vocabulary learnt are taken
for the words there, never less than a character. Bytes of a character that is cut in the middle belong to the token
before. Invariant: it depends on the tokens only, so that masks can be drawn by arithmetic, without reading text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CONTINUES, _ALWAYS, _LETTER, _DIGIT, _MARK = range(5)
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Blocks of Thai, Lao, Burmese, Khmer, Han and kana."""


class HasTokenBytes(Protocol):
    """What is asked of a tokenizer."""

    vocab_size: int
    control_ids: frozenset[int]

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes that one token stands for."""


class WordStarts:
    """Tables over the vocabulary, made once. `continuing`: the tokens that go on in a word, where a vocabulary says so
    ("##ing"); all others begin one.
    """

    def __init__(self, tokenizer: HasTokenBytes, continuing: Collection[int] | None = None) -> None:
        texts = [
            b"" if token in tokenizer.control_ids else tokenizer.token_bytes(token)
            for token in range(tokenizer.vocab_size)
        ]
        if continuing is None:
            self._first = np.array([_first(text) for text in texts], dtype=np.int8)
        else:
            self._first = np.full(len(texts), _ALWAYS, dtype=np.int8)
            self._first[list(continuing)] = _CONTINUES
        self._last = np.array([_last(text) for text in texts], dtype=np.int8)
        self.ordinary = np.array([bool(text) for text in texts])
        """Whether a token stands for text, by id."""

    def of(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where a word begins; control tokens belong to none, and a word begins behind them. [time]"""
        ordinary, first = self.ordinary[tokens], self._first[tokens]
        starts = (first == _ALWAYS) | (first != np.roll(self._last[tokens], 1)) & (first != _CONTINUES)
        starts[1:] |= ~ordinary[:-1]
        starts[:1] = True
        found: NDArray[np.bool_] = starts & ordinary
        return found


def _first(text: bytes) -> int:
    if text and 0x80 <= text[0] < 0xC0:
        return _CONTINUES
    decoded = text.decode("utf-8", errors="ignore")
    # The beginning of a character that is cut has a class of its own to nobody: the scripts that are cut most have none
    # of the spaces that would tell.
    return _class_of(decoded[0]) if decoded else _ALWAYS


def _last(text: bytes) -> int:
    decoded = text.decode("utf-8", errors="ignore")
    kind = _class_of(decoded[-1]) if decoded else _LETTER
    return _MARK if kind == _ALWAYS and decoded[-1].isspace() else kind


def without_spaces(character: str) -> bool:
    """Whether a character is of a script that puts no spaces between words."""
    code = ord(character)
    return any(low <= code <= high for low, high in _WITHOUT_SPACES)


def _class_of(character: str) -> int:
    if character.isspace() or without_spaces(character):
        return _ALWAYS
    category = unicodedata.category(character)[0]
    return _LETTER if category in "LM" else _DIGIT if category == "N" else _MARK
