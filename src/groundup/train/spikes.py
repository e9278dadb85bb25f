"""Losses that jump: the update is left out, or the run goes back and leaves out the batches around the jump.

    losses of the last steps --mean + threshold * deviation--> limit of the next loss
    action skip       a loss above it changes nothing (as a loss that is no number)
    action rollback   back to the last good checkpoint, on to `batches_before` the jump, then past the batches around it

            steps    ... 96 97 98 99 | 100 101     batches_before 2, batches_after 1, jump in the 99th batch:
            batches  ... 96 97 98 99 | 100 ...     ->  step 97 takes batch 101

Invariant: what is left out depends on the losses only and lies in the checkpoint, so that a run killed at any moment
ends with the bits of one never killed. (PaLM, Chowdhery et al. 2022, section 5.1, did this by hand.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from groundup.config import Config
from groundup.errors import DivergedError

_SMALLEST_DEVIATION = 0.01
"""Of the mean: losses that hardly differ make no jump out of noise."""


class SpikesConfig(Config):
    """What is done about a loss that jumps far above those before it."""

    window_steps: int = Field(default=64, ge=4, le=4096)
    """Steps whose losses are the measure; until there are as many, nothing is a jump."""
    threshold: float = Field(default=8.0, gt=0)
    """Standard deviations above their mean from which a loss is a jump."""
    action: Literal["skip", "rollback"] = "skip"
    """`skip` leaves out the update; `rollback` goes back to a checkpoint and leaves out the batches around the jump."""
    batches_before: int = Field(default=4, ge=0)
    """Batches before the jump that a rollback leaves out; fewer where no checkpoint is that old."""
    batches_after: int = Field(default=4, ge=0)
    """Batches after it that a rollback leaves out."""
    max_spikes: int = Field(default=8, ge=1)
    """The run stops as diverged at the next jump after so many."""


class SpikeGuard:
    """The limit of the next loss, and which batch belongs to which step once some were left out."""

    def __init__(self, config: SpikesConfig | None) -> None:
        self.config = config
        self.losses: list[float] = []
        self.left_out: list[tuple[int, int]] = []
        """(step, batches): from that step on, counted from 0, batches are taken so many further on."""
        self.total = 0

    @property
    def limit(self) -> float:
        """Losses must stay below it; infinite without a rule, or before there are enough losses."""
        if self.config is None or len(self.losses) < self.config.window_steps:
            return math.inf
        # By math.fsum, which rounds once: exact like the statistics module, in a hundredth of its time.
        mean = math.fsum(self.losses) / len(self.losses)
        deviation = math.sqrt(math.fsum((loss - mean) ** 2 for loss in self.losses) / len(self.losses))
        return mean + self.config.threshold * max(deviation, _SMALLEST_DEVIATION * abs(mean))

    @property
    def goes_back(self) -> bool:
        """Whether the rule is to go back."""
        return self.config is not None and self.config.action == "rollback"

    def accept(self, loss: float) -> None:
        """Count a loss that made an update."""
        if self.config is not None:
            self.losses = [*self.losses, loss][-self.config.window_steps :]

    def count(self, step: int, loss: float, limit: float) -> None:
        """Count a jump at step number `step`. Raises DivergedError when there were too many."""
        assert self.config is not None, "without a rule no loss is a jump"
        self.total += 1
        if self.total > self.config.max_spikes:
            raise DivergedError(
                f"step {step}: loss {loss:.4g} is jump number {self.total} (limit {limit:.4g}), spikes.max_spikes is"
                f" {self.config.max_spikes}; lower optimizer.learning_rate, or look at the data there"
            )

    def batch(self, step: int) -> int:
        """Number of the batch of a step, both counted from 0."""
        return step + sum(batches for first, batches in self.left_out if first <= step)

    def first_left_out(self, spike: int) -> int:
        """The step, counted from 0, whose batch is the first to be left out for a jump at step `spike`."""
        assert self.config is not None, "without a rule nothing is left out"
        return max(0, spike - self.config.batches_before)

    def leave_out(self, first: int, spike: int) -> tuple[int, int]:
        """From step `first` on, pass over what lies around the jump; returns those batches as (first, last)."""
        assert self.config is not None, "without a rule nothing is left out"
        begin, end = self.batch(first), self.batch(spike) + self.config.batches_after
        # What was left out between the two is inside this range, and must not be counted twice.
        self.left_out = [*(entry for entry in self.left_out if entry[0] <= first), (first, end + 1 - begin)]
        return begin, end

    def account(self) -> dict[str, Any]:
        """For a checkpoint."""
        if self.config is None:
            return {}
        return {"spikes": {"losses": self.losses, "left_out": self.left_out, "total": self.total}}

    def take_back(self, saved: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint says."""
        self.losses = [float(loss) for loss in saved.get("losses", ())]
        self.left_out = [(int(first), int(batches)) for first, batches in saved.get("left_out", ())]
        self.total = int(saved.get("total", 0))
