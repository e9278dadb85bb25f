"""Facts about characters: kinds for segmentation, scripts written without spaces, punctuation that ends a sentence.

Invariant: tables are computed from Unicode properties and the legacy encodings that Python ships, so no data file is
needed and every process has the same ones.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, NUMBER, UNSPACED, SYMBOL, JOINER, NUMBER_JOINER, APOSTROPHE = range(8)
"""Kinds of characters. LETTER: alphabetic and marks; NUMBER: digits and `_`; UNSPACED: letters of scripts that are
written without spaces; JOINER and NUMBER_JOINER: symbols that are part of a word when between two word characters, or
two digits; APOSTROPHE: begins the second part of a contraction (`don` `'t`) when between two word characters."""
TABLE_SIZE = 0x40000
"""Code points from here on (tags, private use) are looked up as the last one below: symbols."""
_JOINERS = {".,": JOINER, ":/-": NUMBER_JOINER, "'’": APOSTROPHE}
UNSPACED_CHARACTERS_PER_WORD = 1.6
"""Length of a Chinese word in running text, in characters (MSR and PKU corpora of the SIGHAN 2005 bake-off: 1.6)."""

UNSPACED_RANGES = (  # Thai and Lao, Myanmar, Khmer; kana; Han with its extensions and compatibility forms
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)
UNSPACED_CLASS = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in UNSPACED_RANGES)
"""The same ranges for the inside of a regular expression's brackets."""

TERMINAL = tuple(".!?。！？．｡‼‽⁇⁈⁉؟۔।॥։፧።៕။᠃")
"""Characters that end a sentence in the larger scripts (Unicode's Sentence_Terminal)."""
UNSPACED_ENDS = ("……", *(mark + closing for mark in "。！？…．｡" for closing in "」』”’）)】》〉\"'"))
"""Ends of a Chinese or Japanese sentence whose closing quote or bracket follows its mark."""
BULLETS = tuple("•-‣◦▪·●○■□▶►※★☆・*")
"""Characters that begin an item of a list."""


@cache
def kinds() -> NDArray[np.uint8]:
    """Kind of each code point below TABLE_SIZE."""
    table = np.full(TABLE_SIZE, SYMBOL, dtype=np.uint8)
    for code in range(0x20000):
        character = chr(code)
        if character.isalpha():
            table[code] = LETTER
        elif character.isalnum() or character == "_":
            table[code] = NUMBER
        elif character.isspace():
            table[code] = SPACE
        elif code > 0x2FF and unicodedata.category(character)[0] == "M":
            table[code] = LETTER
    for first, last in UNSPACED_RANGES:
        inside = table[first : last + 1]
        inside[(inside == LETTER) | (first >= 0x20000)] = UNSPACED
    return _with_joiners(table)


@cache
def ascii_kinds() -> NDArray[np.uint8]:
    """The part of `kinds` that ASCII text needs, without computing the rest."""
    table = np.full(256, SYMBOL, dtype=np.uint8)
    for code in range(128):
        character = chr(code)
        if character.isalpha():
            table[code] = LETTER
        elif character.isdigit() or character == "_":
            table[code] = NUMBER
        elif character.isspace():
            table[code] = SPACE
    return _with_joiners(table)


def _with_joiners(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    for characters, kind in _JOINERS.items():
        table[[ord(character) for character in characters if ord(character) < len(table)]] = kind
    return table


@cache
def chinese_forms() -> tuple[frozenset[str], frozenset[str]]:
    """Han characters used in simplified writing only, and in traditional writing only.

    Told by the encodings of mainland China (GB 2312, simplified) and of Taiwan (Big5, traditional): a character that
    one has and the other lacks belongs to one form. Japanese forms that neither has are in neither set.
    """
    simplified, traditional = set(), set()
    for code in range(0x4E00, 0x9FFF):
        character = chr(code)
        in_mainland, in_taiwan = _encodable(character, "gb2312"), _encodable(character, "big5")
        if in_mainland and not in_taiwan:
            simplified.add(character)
        elif in_taiwan and not in_mainland:
            traditional.add(character)
    return frozenset(simplified), frozenset(traditional)


def _encodable(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
