"""Two versions of a text -> what differs, in a few short lines: for people who ask what cleaning did.

Invariant: the number and the length of the lines are bounded, and so is the time, however long the texts are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice, zip_longest

from groundup.errors import printable

_LINES_SHOWN = 40
_LINES_COMPARED = 2000
_CHARACTERS = 120
_BEFORE_CHANGE = 30


def differences(before: str, after: str) -> list[str]:
    """Lines that begin with "@ " (number of a line), "- " (gone) or "+ " (new), cut to where they differ."""
    if before == after:
        return []
    old, new = before.split("\n"), after.split("\n")
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    lines = list(islice(_changed(old[:_LINES_COMPARED], new[:_LINES_COMPARED], start), _LINES_SHOWN + 1))
    if len(lines) > _LINES_SHOWN or max(len(old), len(new)) > _LINES_COMPARED:
        lines[_LINES_SHOWN:] = ["... and more"]
    return lines


def _common(one: list[str], other: list[str]) -> int:
    """How many lines both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def _changed(old: list[str], new: list[str], offset: int) -> Iterator[str]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        if kind == "equal":
            continue
        yield f"@ {offset + old_start + 1}"
        for gone, come in zip_longest(old[old_start:old_stop], new[new_start:new_stop]):
            shared = 0 if gone is None or come is None else _shared(gone, come)
            if gone is not None:
                yield f"- {_shown(gone, shared)}"
            if come is not None:
                yield f"+ {_shown(come, shared)}"


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _shown(line: str, shared: int) -> str:
    start = max(0, shared - _BEFORE_CHANGE)
    piece = printable(line[start : start + _CHARACTERS])
    return ("..." if start else "") + piece + ("..." if len(line) > start + _CHARACTERS else "")
