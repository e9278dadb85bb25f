"""Exact match and F1 of a short Chinese answer, by the rules of CMRC 2018 (arXiv 1810.07366).

Texts are cut into single Chinese characters, and what stands between them into words; F1 counts the longest run of
pieces in common. The official script cuts those words by NLTK; here a word is a run of letters and digits or a decimal
number, and any other sign stands by itself, which differs in English contractions and abbreviations only.

Invariant: Chinese and some ASCII punctuation is left out before anything is compared, and letter case.
"""

from __future__ import annotations

import re

_LEFT_OUT = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_PIECES = re.compile(r"[\u4e00-\u9fa5]|\d+(?:[.,]\d+)+|[^\W\u4e00-\u9fa5]+|[^\w\s]")


_CHINESE = re.compile("[\u4e00-\u9fa5]")


def is_chinese(text: str) -> bool:
    """Whether a Chinese character is in it, so that these rules are the ones to count by."""
    return _CHINESE.search(text) is not None


def plain(text: str) -> str:
    """What exact match compares."""
    return "".join(character for character in text.lower().strip() if character not in _LEFT_OUT)


def pieces(text: str) -> list[str]:
    """What F1 compares."""
    return _PIECES.findall(plain(text))


def exact_match(prediction: str, reference: str) -> float:
    """1.0 when nothing differs, else 0.0."""
    return float(plain(prediction) == plain(reference))


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of the shares that the longest common run has of both; of no pieces: 1.0 when both have none."""
    predicted, expected = pieces(prediction), pieces(reference)
    if not predicted or not expected:
        return float(predicted == expected)
    return 2.0 * _longest_run(predicted, expected) / (len(predicted) + len(expected))


def _longest_run(one: list[str], other: list[str]) -> int:
    """Length of the longest run of pieces that stands in both."""
    longest, above = 0, [0] * (len(other) + 1)
    for piece in one:
        row = [0] * (len(other) + 1)
        for index, beside in enumerate(other, start=1):
            if piece == beside:
                row[index] = above[index - 1] + 1
                longest = max(longest, row[index])
        above = row
    return longest
