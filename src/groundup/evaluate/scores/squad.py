"""Exact match and F1 of a short answer, by the rules of SQuAD 1.1 and 2.0 (arXiv 1606.05250, 1806.03822).

Invariant: both compare after letter case, ASCII punctuation, the words a, an, the and extra white space are left out;
where there is no answer, only nothing is right.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalised(text: str) -> str:
    """What is compared."""
    plain = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, reference: str) -> float:
    """1.0 when nothing differs, else 0.0."""
    return float(normalised(prediction) == normalised(reference))


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of words; of no words: 1.0 when both have none."""
    predicted, expected = normalised(prediction).split(), normalised(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    common = (Counter(predicted) & Counter(expected)).total()
    return 2.0 * common / (len(predicted) + len(expected))
