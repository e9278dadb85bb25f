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
        best = _best(np.concatenate([best, members]) if len(best) else members)
    for members in pieces():
        yield members, _look_up(best, members)


def _best(members: NDArray[Any]) -> NDArray[Any]:
    """The member of each group that ranks first."""
    content = members["content"]
    ranks = (members["document"], content[:, 1], content[:, 0], members["priority"])
    order = np.lexsort((*ranks, members["second"], members["key"]))
    starts = borders_of_groups(members["key"][order], members["second"][order])[:-1]
    return members[order[starts]]


def _look_up(best: NDArray[Any], members: NDArray[Any]) -> NDArray[np.uint64]:
    """The kept document of each member's group; `best` has one record of every group."""
    keys, seconds = (np.concatenate([best[name], members[name]]) for name in ("key", "second"))
    order = np.lexsort((np.arange(len(keys)), seconds, keys))
    borders = borders_of_groups(keys[order], seconds[order])
    kept = np.empty(len(keys), dtype=np.uint64)
    kept[order] = np.repeat(best["document"][order[borders[:-1]]], np.diff(borders))
    return kept[len(best) :]
