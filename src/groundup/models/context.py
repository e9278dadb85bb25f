"""What the training step knows of the rows of a micro-batch beyond their tokens: noise keys, and what is carried over.

    window s of a stream  --states at its end-->  memory  --states at its start-->  window s + 1, in the next step

Invariant: a model reads and writes its rows of `memory` in place, without gradient, and nothing else remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int32
from torch import Tensor

from groundup.models.row_part import RowPart


@dataclass(frozen=True)
class RowContext:
    """Of one micro-batch, row by row."""

    keys: Int32[Tensor, " rows"] | None = None
    """For dropout; None drops nothing."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, [rows, ...]: what the model kept of each row's window before; it writes what it keeps of this one."""
    continues: Bool[Tensor, " rows"] | None = None
    """Whether a row goes on where the same row of the step before ended; None: none does."""

    part: RowPart | None = None
    """Which positions of its rows a micro-batch has, where they are split over ranks; None: all."""

    def start_of(self, name: str) -> Tensor | None:
        """What is carried into this window: the memory of rows that go on, zeros for the others; None: no memory."""
        kept = self.memory.get(name)
        if kept is None or self.continues is None:
            return None
        return kept * self.continues.view(-1, *[1] * (kept.ndim - 1))

    @torch.no_grad()
    def keep(self, name: str, value: Tensor) -> None:
        """Remember `value` for the next window; numbers that are not finite become 0, lest one step spoil the rest."""
        if name in self.memory:
            self.memory[name].copy_(value.detach().float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
