"""Rows split over ranks: which positions of each row one rank has, and how it reaches those of the others.

    chunks of a row      0   1   2   3   4   5   6   7          4 ranks: 8 chunks, two for each
    rank that has them   0   1   2   3   3   2   1   0          so under a causal mask all ranks have the same to do

A model reads a part as it reads a row: positions, documents and random numbers are those of the whole row. Only
attention asks the others, by `Line`. Invariant: losses and gradients of all parts together are those of the whole row,
to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

Range = tuple[int, int]
"""Positions from the first up to the second, which is left out."""
Way = Literal["auto", "gather", "ring"]
"""How keys and values reach the ranks that do not have them."""
RING_FROM = 16_384
"""Positions of a row from which `auto` takes the ring: a mask over all keys is as large as the activations by then."""


class Line(Protocol):
    """The ranks that share the rows of a batch, as one of them reaches the others; every call is a collective."""

    rank: int
    size: int
    way: Way

    def gather(self, tensor: Tensor) -> Tensor:
        """[...] of every rank -> [size, ...]; gradients of all ranks are added up on the way back."""

    def pass_on(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Begin to send `tensor` to the next rank; the call of what is returned waits for that of the rank before."""


@dataclass(frozen=True)
class RowPart:
    """What one rank has of each row of a micro-batch."""

    line: Line
    length: int
    """Positions of the whole row."""
    columns: Int[Tensor, " time"]
    """Those of this rank, in its order."""
    segments: Int[Tensor, "rows length"] | None
    """Of the whole row, since a position must know whose documents the keys of others belong to."""

    @classmethod
    def of(cls, line: Line | None, segments: Int[Tensor, "rows length"]) -> RowPart | None:
        """This rank's part of rows with these segments; None where rows are not split.

        Raises ValueError when the rows cannot be cut into two equal chunks for each rank.
        """
        if line is None:
            return None
        length = segments.shape[1]
        if length % (2 * line.size):
            raise ValueError(
                f"rows of {length} positions cannot be split over {line.size} ranks; use a multiple of {2 * line.size}"
            )
        ranges = ranges_of(length, line.rank, line.size)
        columns = torch.cat([torch.arange(start, end, device=segments.device) for start, end in ranges])
        return cls(line, length, columns, segments)

    @property
    def uses_ring(self) -> bool:
        """Whether keys and values go round; else every rank gathers them all."""
        return self.line.way == "ring" or (self.line.way == "auto" and self.length >= RING_FROM)

    def ranges(self, rank: int | None = None) -> tuple[Range, Range]:
        """The positions of a rank (None: of this one), earlier chunk first."""
        return ranges_of(self.length, self.line.rank if rank is None else rank, self.line.size)

    def whole(self, tensor: Tensor, dim: int) -> Tensor:
        """What every rank has of its positions, along `dim`, put together in the order of the row."""
        size, dim = self.line.size, dim % tensor.ndim
        halves = [part.chunk(2, dim) for part in self.line.gather(tensor)]
        first = [halves[rank][0] for rank in range(size)]
        return torch.cat([*first, *(halves[rank][1] for rank in reversed(range(size)))], dim)


def ranges_of(length: int, rank: int, size: int) -> tuple[Range, Range]:
    """The two ranges of positions that a rank has: chunk `rank` of 2 * size, and the one as far from the end."""
    chunk = length // (2 * size)
    mirrored = 2 * size - 1 - rank
    return (rank * chunk, (rank + 1) * chunk), (mirrored * chunk, (mirrored + 1) * chunk)
