"""One tree of sums for any number of ranks, and each addition with the operands that the picture shows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundup.parallel.ordered import Tree


def leaves(count: int) -> list[Tensor]:
    """Numbers of very different sizes, of which hardly two orders have the same sum."""
    random = torch.Generator().manual_seed(count)
    return [
        torch.randn(50, generator=random) * 10.0 ** torch.randint(-3, 4, (50,), generator=random) for _ in range(count)
    ]


def total(tensors: list[Tensor]) -> Tensor:
    tree = Tree(len(tensors))
    for tensor in tensors:
        tree.add([tensor.clone()])
    (summed,) = tree.total()
    return summed


@pytest.mark.parametrize(("count", "most_ranks"), [(8, 8), (12, 4), (24, 8), (40, 8), (6, 2)])
def test_ranks_cut_the_tree_along_its_branches(count: int, most_ranks: int) -> None:
    given = leaves(count)
    expected = total(given)
    ranks = 2
    while ranks <= most_ranks:
        each = count // ranks
        parts = [total(given[rank * each : (rank + 1) * each]) for rank in range(ranks)]
        assert torch.equal(total(parts), expected), ranks
        ranks *= 2
    one_after_the_other = given[0].clone()
    for tensor in given[1:]:
        one_after_the_other += tensor
    assert not torch.equal(one_after_the_other, expected), "the order matters for these numbers"
    torch.testing.assert_close(one_after_the_other, expected, rtol=1e-4, atol=1e-2)


def test_the_order_is_that_of_the_picture() -> None:
    a, b, c, d = leaves(4)
    assert torch.equal(total([a, b, c, d]), (a + b) + (c + d))
    a, b, c, d, e, f = leaves(6)
    assert torch.equal(total([a, b, c, d, e, f]), ((a + b) + c) + ((d + e) + f))
    assert torch.equal(total([a, b, c]), (a + b) + c)


def test_a_sum_that_misses_a_leaf_is_no_sum() -> None:
    tree = Tree(4)
    for tensor in leaves(3):
        tree.add([tensor])
    with pytest.raises(AssertionError, match="3 of 4"):
        tree.total()
