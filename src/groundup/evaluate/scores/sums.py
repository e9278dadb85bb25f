"""The number that a calculation in words ends with, as in GSM8K: `... #### 1,234`.

Invariant: two answers are equal when they are the same number, however it is written (commas, signs of money, `.0`).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_NUMBER = r"[-+]?[$€£¥]?\s?(?:\d[\d,]*\.?\d*|\.\d+)"
_MARKED = re.compile(rf"####\s*({_NUMBER})")
_ANY = re.compile(_NUMBER)
_LEFT_OUT = re.compile(r"[\s,$€£¥+]")


def final_number(text: str) -> Decimal | None:
    """The number behind `####`, else the last number of the text, else None. A dash behind a digit is no sign."""
    text = text.replace("\u2212", "-")  # the sign of minus that is not on keyboards
    marked = _MARKED.findall(text)
    found = marked[-1:] or _ANY.findall(re.sub(r"(?<=\d)-", " ", text))[-1:]
    if not found:
        return None
    try:
        return Decimal(_LEFT_OUT.sub("", found[0]).rstrip("."))
    except InvalidOperation:
        return None


def final_answer(prediction: str, reference: str) -> float:
    """1.0 when both end with the same number, else 0.0."""
    expected = final_number(reference)
    return float(expected is not None and final_number(prediction) == expected)
