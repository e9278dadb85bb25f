"""Labels of words -> the entities that they spell: BIO, IOB2, BIOES and BMES.

    Jane B-PER  Austen I-PER  lived O  in O  Bath B-LOC    ->    (PER, 0, 1), (LOC, 4, 4)

An entity that begins with I (or M, E), or changes its kind, is taken as one, as conlleval and seqeval take it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SPELLING = re.compile(r"[BIMES](-.+)?|O")


class Entity(NamedTuple):
    """Words `first` to `last` (both of it) are one of a kind; "" where labels name no kind."""

    kind: str
    first: int
    last: int


def spells_entities(labels: Iterable[str]) -> bool:
    """Whether labels are of this spelling, and not names of their own (of parts of speech, say)."""
    known = set(labels)
    return all(_SPELLING.fullmatch(label) for label in known) and any(label[0] in "BI" for label in known)


def entities(labels: Sequence[str]) -> list[Entity]:
    """The entities of one text, in order."""
    found: list[Entity] = []
    before, kind_before = "O", ""
    for at, label in enumerate(labels):
        tag, _, kind = label.partition("-")
        begins = tag in ("B", "S") or (tag != "O" and (before in ("O", "E", "S") or kind != kind_before))
        if begins:
            found.append(Entity(kind, at, at))
        elif tag != "O":
            found[-1] = found[-1]._replace(last=at)
        before, kind_before = tag, kind
    return found
