"""Text -> sentences by their end marks, in scripts with and without spaces.

Invariant: the sentences joined give the text back, whatever it holds; no regular expression here can take more than
linear time.
"""

from __future__ import annotations

import re

_ABBREVIATIONS = ("Mr", "Mrs", "Ms", "Dr", "St", "Prof", "vs", "No", r"e\.g", r"i\.e", "[A-Z]")
_NO_ABBREVIATION = "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS)
_CLOSING = r"[\"'”’»)\]」』）】》〉]*"
_END = re.compile(
    rf"[.!?؟۔।…]{{1,20}}{_NO_ABBREVIATION}{_CLOSING}\s+"  # a mark and white space behind it
    rf"|[。！？｡…]{{1,20}}{_CLOSING}\s*"  # full-width marks need no space
    r"|\n{2,}"
)


def split_sentences(text: str) -> list[str]:
    """Sentences with the marks and white space behind them; empty text has none."""
    sentences, start = [], 0
    for match in _END.finditer(text):
        sentences.append(text[start : match.end()])
        start = match.end()
    return [*sentences, text[start:]] if start < len(text) else sentences


def count_sentences(text: str, enough: int) -> int:
    """Number of sentences, counted no further than `enough`."""
    count, start = 0, 0
    for match in _END.finditer(text):
        count, start = count + 1, match.end()
        if count >= enough:
            return count
    return count + (start < len(text))
