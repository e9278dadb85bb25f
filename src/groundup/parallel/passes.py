"""What a step asks of the ranks: all its micro-batches forward and backward, whatever the way they take.

    passes -> gradients, and the loss sums of their rows

Invariant: a way to go decides order and place only; gradients and sums are those of one micro-batch after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from groundup.parallel import shard


class RowPart(Protocol):
    """This rank's part of rows that several share."""

    @property
    def segments(self) -> Tensor | None:
        """Of the whole rows."""


class KeyedRows(Protocol):
    """What a model is told of a micro-batch's rows."""

    @property
    def keys(self) -> Tensor | None:
        """Of each row, for what is dropped."""

    @property
    def part(self) -> RowPart | None:
        """Which positions of its rows it has, where ranks share them."""


@dataclass(frozen=True)
class Pass:
    """One micro-batch on its way through the model and back."""

    inputs: Mapping[str, Tensor]
    """What the model reads, [rows, time] each."""
    targets: Tensor
    weights: Tensor
    """[rows, ...]: the derivative of this rank's part of the loss by each of the rows' loss sums."""
    context: KeyedRows


Passes = Callable[[nn.Module, Sequence[Pass]], list[Tensor]]
"""(model, micro-batches) -> the loss sums of each one's rows, without gradient; adds to the parameters' gradients."""


def one_after_another(model: nn.Module, passes: Sequence[Pass]) -> list[Tensor]:
    """Each micro-batch through the whole model and back before the next one begins."""
    sums = []
    for number, each in enumerate(passes, start=1):
        shard.reduce_copies(model, now=number == len(passes))
        row_sums, _ = model(**each.inputs, targets=each.targets, row_weights=each.weights, context=each.context)
        (row_sums * each.weights).sum().backward()
        sums.append(row_sums.detach())
    return sums
