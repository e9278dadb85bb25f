"""Texts -> the script in which most of the letters of each are written, by Unicode's blocks.

It is told by the beginning and the middle of a text and says nothing about its language. Han characters with kana among
them are a script of their own here, so that Japanese is not counted as Chinese.

Invariant: the answer depends on the text only; many texts cost one pass over their samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.clean.scripts import LETTER, UNSPACED, kinds

_SAMPLE_CHARACTERS = 500
_KANA_SHARE = 0.05
"""Of Han and kana together, from which a text counts as Japanese; running Japanese text has more than half."""
_LETTER = re.compile("[A-Za-z]")
_MARKS_OF_ANY_SCRIPT = (0x300, 0x36F)
_BLOCKS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("Latin", ((0x41, 0x24F), (0x250, 0x2AF), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF))),
    ("Latin", ((0xAB30, 0xAB6F), (0xFB00, 0xFB06), (0xFF21, 0xFF5A))),
    ("Greek", ((0x370, 0x3FF), (0x1F00, 0x1FFF))),
    ("Cyrillic", ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F))),
    ("Armenian", ((0x530, 0x58F),)),
    ("Hebrew", ((0x590, 0x5FF), (0xFB1D, 0xFB4F))),
    ("Arabic", ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE))),
    ("Syriac", ((0x700, 0x74F),)),
    ("Devanagari", ((0x900, 0x97F), (0xA8E0, 0xA8FF))),
    ("Bengali", ((0x980, 0x9FF),)),
    ("Gurmukhi", ((0xA00, 0xA7F),)),
    ("Gujarati", ((0xA80, 0xAFF),)),
    ("Odia", ((0xB00, 0xB7F),)),
    ("Tamil", ((0xB80, 0xBFF),)),
    ("Telugu", ((0xC00, 0xC7F),)),
    ("Kannada", ((0xC80, 0xCFF),)),
    ("Malayalam", ((0xD00, 0xD7F),)),
    ("Sinhala", ((0xD80, 0xDFF),)),
    ("Thai", ((0xE00, 0xE7F),)),
    ("Lao", ((0xE80, 0xEFF),)),
    ("Tibetan", ((0xF00, 0xFFF),)),
    ("Myanmar", ((0x1000, 0x109F),)),
    ("Georgian", ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F))),
    ("Hangul", ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC))),
    ("Ethiopic", ((0x1200, 0x139F), (0x2D80, 0x2DDF))),
    ("Cherokee", ((0x13A0, 0x13FF), (0xAB70, 0xABBF))),
    ("Khmer", ((0x1780, 0x17FF),)),
    ("Mongolian", ((0x1800, 0x18AF),)),
    ("Han", ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF))),
    ("Han", ((0xF900, 0xFAFF), (0x20000, 0x3FFFF))),
    ("Han with kana", ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))),
)
_NONE, _OTHER = 0, 1
SCRIPTS = ("no letters", "other scripts", *dict.fromkeys(name for name, _ in _BLOCKS))
"""Names of scripts, by their number."""
_LATIN, _HAN, _KANA = (SCRIPTS.index(name) for name in ("Latin", "Han", "Han with kana"))


def scripts_of(texts: Sequence[str]) -> list[int]:
    """Number (in SCRIPTS) of the script of most letters of each text."""
    found = [_LATIN if text.isascii() and _LETTER.search(text) else _NONE for text in texts]
    others = [i for i, text in enumerate(texts) if not text.isascii()]
    for i, script in zip(others, _by_counting([_sample(texts[i]) for i in others])):
        found[i] = script
    return found


def _sample(text: str) -> str:
    middle = len(text) // 2
    return text[:_SAMPLE_CHARACTERS] + text[max(middle, _SAMPLE_CHARACTERS) : middle + _SAMPLE_CHARACTERS]


def _by_counting(samples: Sequence[str]) -> list[int]:
    if not samples:
        return []
    characters = np.frombuffer("".join(samples).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    owners = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples]) * len(SCRIPTS)
    scripts = _table().take(characters, mode="clip")
    counts = np.bincount(owners + scripts, minlength=len(samples) * len(SCRIPTS)).reshape(len(samples), len(SCRIPTS))
    together = counts[:, _HAN] + counts[:, _KANA]
    japanese = counts[:, _KANA] > _KANA_SHARE * together
    counts[:, _HAN], counts[:, _KANA] = np.where(japanese, 0, together), np.where(japanese, together, 0)
    counts[:, _NONE] = 0
    chosen: list[int] = counts.argmax(axis=1).tolist()
    return chosen


@cache
def _table() -> NDArray[np.uint8]:
    """Number of the script of each code point; 0 for what is no letter, or a mark of any script."""
    is_letter = np.isin(kinds(), (LETTER, UNSPACED))
    table = np.where(is_letter, _OTHER, _NONE).astype(np.uint8)
    for name, blocks in _BLOCKS:
        for first, last in blocks:
            inside = slice(first, last + 1)
            table[inside][is_letter[inside]] = SCRIPTS.index(name)
    table[_MARKS_OF_ANY_SCRIPT[0] : _MARKS_OF_ANY_SCRIPT[1] + 1] = _NONE
    table[-1] = _NONE  # stands for all code points behind the table: tags, private use
    return table
