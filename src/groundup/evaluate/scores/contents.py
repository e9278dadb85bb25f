"""What a text holds, without a reference to be compared with: things it has to name, and how much it repeats itself.

Words are those of ROUGE (a character each in scripts without spaces), in lower case.

Invariant: a thing is named when its words stand in the text in a row; part of a word is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from groundup.evaluate.scores.rouge import words

REPEATED_WORDS = 4
"""Words in a row that count as repeated when they stood before."""


def named(text: str, things: Sequence[str]) -> list[bool]:
    """Of each thing, whether the text names it; a thing without letters or digits is never named."""
    found = f" {' '.join(words(text))} "
    wanted = [" ".join(words(thing)) for thing in things]
    return [bool(thing) and f" {thing} " in found for thing in wanted]


def distinct(text: str, size: int) -> tuple[int, int]:
    """(different runs of `size` words, all of them); the quotient is distinct-n (Li et al. 2016, arXiv 1510.03055)."""
    found = words(text)
    runs = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    return len(set(runs)), len(runs)
