"""Alternating stars give the connected components, in one array or in pieces."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.duplicates.components import EDGE, both_ways, checksum, distinct, large_star, small_star

EDGES = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)).filter(lambda e: e[0] != e[1]), max_size=40)


def array(edges):
    return np.array(edges, dtype=EDGE)


def partitions(edges, count, cut):
    """Edges by key into `count` partitions; each one a function that gives it in one array, or cut in two."""
    for number in range(count):
        mine = edges[edges["key"] % count == number]
        middle = len(mine) // 2 if cut else 0
        yield lambda mine=mine, middle=middle: iter([mine[:middle], mine[middle:]])


def components(edges, count, cut):
    """(root of every node, rounds) by star steps over partitions."""
    edges, state, rounds = both_ways(array(edges)), None, 0
    while True:
        rounds += 1
        large = [e for pieces in partitions(edges, count, cut) for e in large_star(pieces)]
        small = [e for pieces in partitions(np.concatenate(large), count, cut) for e in small_star(pieces)]
        together = distinct(np.concatenate(small))
        before, state = state, (len(together), checksum(together))
        if before == state:
            return dict(together.tolist()), rounds
        edges = both_ways(together)


@given(EDGES, st.integers(1, 4), st.booleans())
def test_every_node_ends_at_the_lowest_of_its_component(edges, count, cut):
    found, rounds = components(edges, count, cut)
    root = {node: node for edge in edges for node in edge}
    for _ in root:
        for one, other in edges:
            root[one] = root[other] = min(root[one], root[other])
    assert found == {node: lowest for node, lowest in root.items() if node != lowest}
    assert rounds < 10


def test_a_long_chain_takes_few_rounds():
    nodes = np.random.default_rng(0).permutation(512).tolist()
    found, rounds = components(list(itertools.pairwise(nodes)), 3, True)
    assert set(found.values()) == {0}
    assert rounds < 12


def test_the_checksum_does_not_depend_on_order_or_partitions():
    edges = array([(3, 1), (2, 9), (7, 7)])
    assert checksum(edges) == checksum(edges[::-1])
    assert checksum(edges) == (checksum(edges[:1]) + checksum(edges[1:])) % 2**64
    assert checksum(edges) != checksum(array([(3, 9), (2, 1), (7, 7)]))
