"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004): F1 of the words, pairs of words and longest subsequence in common.

Words are runs of letters and digits in lower case, without stemming; characters of scripts without spaces are a word
each. For English these are the figures of Google's `rouge_score`.

Invariant: each is between 0 and 1, and the same when prediction and reference change places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff]"
    r"|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff]+"
)


def words(text: str) -> list[str]:
    """What is counted."""
    return _WORDS.findall(text.lower())


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """All three; 0.0 where one of the texts has nothing to count."""
    predicted, expected = words(prediction), words(reference)
    return {
        "rouge1": _ngrams_in_common(predicted, expected, 1),
        "rouge2": _ngrams_in_common(predicted, expected, 2),
        "rougeL": _share(_subsequence(predicted, expected), len(predicted), len(expected)),
    }


def _ngrams_in_common(predicted: Sequence[str], expected: Sequence[str], size: int) -> float:
    one, other = _ngrams(predicted, size), _ngrams(expected, size)
    return _share((one & other).total(), one.total(), other.total())


def _ngrams(found: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(found[start : start + size]) for start in range(len(found) - size + 1))


def _share(common: int, predicted: int, expected: int) -> float:
    return 2.0 * common / (predicted + expected) if common else 0.0


def _subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest subsequence of both."""
    above = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for index, beside in enumerate(other):
            row.append(above[index] + 1 if word == beside else max(above[index + 1], row[index]))
        above = row
    return above[-1]
