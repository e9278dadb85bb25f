"""Edges -> connected components, without a step that sees all edges at once.

    edges --large-star--> edges --small-star--> edges ... until nothing changes: every node then has one edge, to the
    lowest node of its component

Large-star links every neighbour of a node that is above it to the lowest node around; small-star links a node and its
lower neighbours to the lowest of these. Both keep components as they are and need only the edges of one node together
(Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected Components in MapReduce and Beyond", 2014).

Invariant: memory is bounded by one array of edges and one number a node in it, however large a component is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.duplicates.hashing import mixed
from groundup.corpus.segments import borders_of_groups

EDGE = np.dtype([("key", "<u8"), ("other", "<u8")])
"""An edge, under one of its two nodes."""

EdgePieces = Callable[[], Iterable[NDArray[Any]]]
"""All edges (dtype EDGE) of some nodes, in one or more arrays; can be gone through again."""


def both_ways(edges: NDArray[Any]) -> NDArray[Any]:
    """Every edge under each of its two nodes."""
    turned = np.empty_like(edges)
    turned["key"], turned["other"] = edges["other"], edges["key"]
    return np.concatenate([edges, turned])


def large_star(pieces: EdgePieces) -> Iterator[NDArray[Any]]:
    """Edges of nodes, given both ways -> new edges, each under its higher node."""
    for edges, lowest in _with_lowest(pieces):
        above = edges["other"] > edges["key"]
        yield _edges(edges["other"][above], np.minimum(lowest, edges["key"])[above])


def small_star(pieces: EdgePieces) -> Iterator[NDArray[Any]]:
    """Edges of nodes, each under its higher node -> new edges, each under its higher node."""
    for edges, lowest in _with_lowest(pieces):
        apart = edges["other"] != lowest
        nodes = distinct(_edges(edges["key"], lowest))
        yield np.concatenate([nodes, _edges(edges["other"][apart], lowest[apart])])


def checksum(edges: NDArray[Any]) -> int:
    """A 64-bit number that does not depend on the order of edges; those of two arrays add up (modulo 2^64)."""
    return int(mixed(edges["key"] ^ mixed(edges["other"])).sum(dtype=np.uint64))


def _edges(nodes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[Any]:
    made = np.empty(len(nodes), dtype=EDGE)
    made["key"], made["other"] = nodes, others
    return made


def distinct(edges: NDArray[Any]) -> NDArray[Any]:
    """Edges without repeats, sorted."""
    ordered = edges[np.lexsort((edges["other"], edges["key"]))]
    return ordered[borders_of_groups(ordered["key"], ordered["other"])[:-1]]


def _with_lowest(pieces: EdgePieces) -> Iterator[tuple[NDArray[Any], NDArray[np.uint64]]]:
    """(distinct edges, the lowest neighbour of each edge's node), array by array."""
    lowest = np.zeros(0, dtype=EDGE)
    for edges in pieces():
        together = distinct(np.concatenate([lowest, edges]))
        lowest = together[borders_of_groups(together["key"])[:-1]]
    for edges in pieces():
        found = distinct(edges)
        yield found, lowest["other"][np.searchsorted(lowest["key"], found["key"])]
