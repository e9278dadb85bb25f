"""Memory that does not hold a micro-batch: half of its rows, the same global batch, the step done again.

    step of 8 rows: 8 -> out of memory -> gradients cleared -> 4 + 4 -> ... -> 1 at a time -> no other way

Invariant: a step that was done again has the bits of a step begun with that micro-batch; the loss is a sum divided by
counts of the global batch, so fewer rows at a time change its rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from groundup.errors import ResourceError
from groundup.train.state import TrainState
from groundup.train.step import StepResult

_SIGNS = ("allocate memory", "not enough memory", "out of memory", "bad_alloc")
"""How allocators say it in a RuntimeError: those of CPUs have no class of their own."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error of a step says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def fewer_rows(rows: int, rows_of_rank: int) -> int:
    """The largest divisor of the rank's rows that is at most half of `rows` (2 or more)."""
    return next(fewer for fewer in range(rows // 2, 0, -1) if rows_of_rank % fewer == 0)


class MicroBatching:
    """How many rows of this rank go through the model at a time."""

    def __init__(self, rows: int, rows_of_rank: int) -> None:
        self.asked = self.rows = rows
        self._rows_of_rank = rows_of_rank

    def account(self) -> dict[str, Any]:
        """For a checkpoint: what memory decided, so that a resumed run rounds as one that went on."""
        return {} if self.rows == self.asked else {"micro_batch": {"asked": self.asked, "rows": self.rows}}

    def take_back(self, saved: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint says, where the runtime still asks for the same."""
        if saved.get("asked") == self.asked and self._rows_of_rank % max(int(saved["rows"]), 1) == 0:
            self.rows = int(saved["rows"])

    def step(
        self, state: TrainState, attempt: Callable[[int], StepResult], on_halved: Callable[[int, int], None]
    ) -> StepResult:
        """The result of `attempt(rows)`, with fewer rows where memory asks for it; `on_halved(before, after)`.

        Raises ResourceError when one row at a time is too much, when the update itself ran out of memory, and on
        several ranks, where the others already wait for this one, or where other rows are another order of sums.
        """
        while True:
            carried = {name: kept.clone() for name, kept in state.memory.items()}
            try:
                return attempt(self.rows)
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                self._require_another_way(state, error)
            # Behind `except`, whose error holds on to the tensors of the step that failed.
            state.optimizer.zero_grad()
            for name, kept in state.memory.items():
                kept.copy_(carried[name])
            if state.device.type == "cuda":
                torch.cuda.empty_cache()
            before, self.rows = self.rows, fewer_rows(self.rows, self._rows_of_rank)
            on_halved(before, self.rows)

    def _require_another_way(self, state: TrainState, error: BaseException) -> None:
        where, go_on = f"step {state.step + 1}: out of memory", "; the last checkpoint is whole"
        if state.updating:
            raise ResourceError(
                f"{where} in the optimizer's update; take a smaller model, an optimizer with less state, more memory"
                + go_on
            ) from error
        if self.rows == 1:
            raise ResourceError(
                f"{where} with one row at a time; set runtime.recompute=true, or take a smaller model or context_length"
                + go_on
            ) from error
        if state.world_size > 1 or state.exact:
            fewer = fewer_rows(self.rows, self._rows_of_rank)
            raise ResourceError(
                f"{where} on rank {state.rank} with {self.rows} rows at a time; set runtime.micro_batch_rows={fewer}"
                + go_on
            ) from error
