"""Boxes of numbers: which part of a whole tensor lies somewhere.

Invariant: offsets and shapes are in numbers of the whole tensor, one of each per dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product


@dataclass(frozen=True, order=True)
class Box:
    """From `offset` on, `shape` numbers along each dimension; of a tensor without dimensions both are empty."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """All of a tensor."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    def overlap(self, other: Box) -> Box | None:
        """What both have; None when that is nothing."""
        first = tuple(map(max, self.offset, other.offset))
        ends = (min(a + n, b + m) for a, n, b, m in zip(self.offset, self.shape, other.offset, other.shape))
        shape = tuple(end - start for start, end in zip(first, ends))
        return Box(first, shape) if all(size > 0 for size in shape) else None

    def inside(self, outer: Box) -> tuple[slice, ...]:
        """Where it lies in the numbers of a box around it."""
        starts = [own - other for own, other in zip(self.offset, outer.offset)]
        return tuple(slice(start, start + size) for start, size in zip(starts, self.shape))

    def rows(self, first: int, count: int) -> Box:
        """`count` of its rows from its own row `first` on."""
        return Box((self.offset[0] + first, *self.offset[1:]), (count, *self.shape[1:]))

    def divided(self, count: int) -> list[Box]:
        """At most so many boxes of about equally many rows."""
        if not self.shape:
            return [self]
        edges = [self.shape[0] * number // count for number in range(count + 1)]
        return [self.rows(first, end - first) for first, end in pairwise(edges) if end > first]

    def corners(self) -> Iterable[tuple[int, ...]]:
        """The points at which it ends."""
        return product(*((start, start + size) for start, size in zip(self.offset, self.shape)))


def tiling_fault(boxes: Sequence[Box], shape: Sequence[int]) -> str | None:
    """Why these boxes do not give each number of a tensor of `shape` exactly once; None where they do.

    They do when their counts add up and every corner but the tensor's own belongs to an even number of them: then the
    number of boxes at a point is odd everywhere, so at least one, and on average one.
    """
    for box in boxes:
        if len(box.offset) != len(shape) or len(box.shape) != len(shape):
            return f"a part has {len(box.shape)} dimensions, the tensor {len(shape)}"
        ends = [start + size for start, size in zip(box.offset, box.shape)]
        if any(start < 0 or size < 1 or end > of for start, size, end, of in zip(box.offset, box.shape, ends, shape)):
            return f"a part at {list(box.offset)} of shape {list(box.shape)} is not inside of {list(shape)}"
    found, wanted = sum(box.count for box in boxes), math.prod(shape)
    if found != wanted:
        return f"its parts hold {found} of {wanted} numbers"
    odd: set[tuple[int, ...]] = set()
    for box in (*boxes, Box.whole(shape)):
        for corner in box.corners():
            odd ^= {corner}
    return "its parts overlap" if odd else None
