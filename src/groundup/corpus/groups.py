"""Members of groups -> for each member the one of its group that is kept.

The rule, which no order of files, records, parts or workers changes: lowest priority (the side that a source is sent
to), then lowest content hash, then, of texts that are the same to the byte, the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.segments import MEMBER, borders_of_groups

Pieces = Callable[[], Iterable[NDArray[Any]]]
"""The members (dtype MEMBER) of some groups, in one or more arrays; can be gone through again."""


def kept_of_groups(pieces: Pieces) -> Iterator[tuple[NDArray[Any], NDArray[np.uint64]]]:
    """(members, the document that is kept of each member's group), array by array.

    Memory: one array of members, and one record a group.
    """
    best = np.zeros(0, dtype=MEMBER)
    for members in pieces():
        best = _best(np.concatenate([best, members]))
    for members in pieces():
        yield members, _look_up(best, members)


def _best(members: NDArray[Any]) -> NDArray[Any]:
    """The member of each group that ranks first."""
    content = members["content"]
    ranks = (members["document"], content[:, 1], content[:, 0], members["priority"])
    ordered = members[np.lexsort((*ranks, members["second"], members["key"]))]
    return ordered[borders_of_groups(ordered["key"], ordered["second"])[:-1]]


def _look_up(best: NDArray[Any], members: NDArray[Any]) -> NDArray[np.uint64]:
    """The kept document of each member's group; `best` has one record of every group."""
    together = np.concatenate([best, members])
    order = np.lexsort((np.arange(len(together)), together["second"], together["key"]))
    ordered = together[order]
    borders = borders_of_groups(ordered["key"], ordered["second"])
    kept = np.empty(len(together), dtype=np.uint64)
    kept[order] = np.repeat(ordered["document"][borders[:-1]], np.diff(borders))
    return kept[len(best) :]
