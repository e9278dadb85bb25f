"""Back to a checkpoint: where a run goes on, where its loss jumped, where copies of the same tensors differ.

    newest good checkpoint -> state, and what was counted beside it -> the journal without the steps after it

Invariant: every rank goes back to the same step, and what is counted goes back with the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.errors import ModelFileError, ResourceError
from groundup.log import logger
from groundup.train import checkpoint, votes
from groundup.train.agreement import Agreement, Difference
from groundup.train.guards import DivergenceGuard
from groundup.train.phase import Course
from groundup.train.shortage import MicroBatching
from groundup.train.spikes import SpikeGuard
from groundup.train.validation import Validation


@dataclass(frozen=True)
class Tally:
    """What a phase counts beside its state, and every checkpoint tells."""

    validation: Validation
    guard: DivergenceGuard
    spikes: SpikeGuard
    micro_batching: MicroBatching

    def account(self, course: Course) -> dict[str, Any]:
        """What a checkpoint tells beside the tensors."""
        # Nothing that differs from run to run, as times do: equal training gives equal bytes, manifest included.
        return {
            "phase": course.phase.name,
            "tokens_seen": course.state.step * course.phase.training.global_batch_tokens,
            "validation": self.validation.figures,
            "skipped": self.guard.total,
            **({"validations": self.validation.losses} if self.validation.losses else {}),
            **self.spikes.account(),
            **self.micro_batching.account(),
        }


class WayBack:
    """The ways back of one phase; `save()` saves a checkpoint, `wait()` returns when the last is on the disk."""

    def __init__(
        self,
        course: Course,
        tally: Tally,
        agreement: Agreement,
        save: Callable[[], None],
        wait: Callable[[], None],
    ) -> None:
        self._course, self._tally, self._agreement, self._save, self._wait = course, tally, agreement, save, wait

    def resume(self) -> float:
        """Load the newest good checkpoint; returns the seconds that earlier attempts trained."""
        course, state = self._course, self._course.state
        if state.rank == 0:
            for folder in (course.checkpoints, course.best):
                checkpoint.remove_leftovers(folder)
            # Known to be needed whatever the optimizer keeps: a disk without it is refused before the first step.
            weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
            checkpoint.require_room(course.checkpoints, weights)
        found = self._load()
        earlier_seconds = course.journal.take_back_after(state.step)
        if found is None:
            if self._tally.spikes.goes_back:
                self._save()
            return 0.0
        course.journal.event("resumed", step=state.step, world_size=state.world_size)
        logger.info(f"{course.phase.name}: resumed at step {state.step} of {course.total_steps}")
        self._tally.spikes.take_back(found.get("spikes", {}))
        if "micro_batch" in found:
            self._tally.micro_batching.take_back(found["micro_batch"])
        return earlier_seconds

    def before_jump(self, loss: float, limit: float) -> None:
        """To the last good checkpoint before the jump, and from there on without the batches around it."""
        course, state, spikes = self._course, self._course.state, self._tally.spikes
        spike = state.step - 1
        self._wait_for_writer()
        with course.watchdog.section("rollback", spike + 1):
            found = self._load(up_to=spikes.first_left_out(spike))
        assert found is not None, "where a rule goes back, the phase began with a checkpoint"
        first = max(spikes.first_left_out(spike), state.step)
        if state.rank == 0:
            checkpoint.remove(checkpoint.newer_than(course.checkpoints, state.step))
        spikes.losses = list(found.get("spikes", {}).get("losses", ()))
        batches = spikes.leave_out(first, spike)
        course.journal.take_back_after(state.step)
        what = f"loss {loss:.3g} above {limit:.3g}: back to step {state.step}"
        logger.warning(f"step {spike + 1}: {what}, leaving out batches {batches[0]} to {batches[1]}")
        about: dict[str, Any] = {"loss": loss, "limit": limit, "to_step": state.step, "number": spikes.total}
        course.journal.event("rollback", step=spike + 1, batches_left_out=list(batches), **about)

    def to_agreement(self, difference: Difference) -> None:
        """To the last checkpoint: none is saved of ranks that differ. Raises ResourceError where there is none yet."""
        course, step = self._course, self._course.state.step
        logger.error(f"step {step}: copies of the same tensors differ: {difference.where}; going back")
        about: dict[str, Any] = {"ranks": list(difference.ranks), "names": list(difference.names)}
        course.journal.event("ranks_differ", step=step, **about)
        self._wait_for_writer()
        if not checkpoint.are_there(course.checkpoints):
            raise ResourceError(
                f"step {step}: copies differ ({difference.where}) and no checkpoint is there yet; memory or processor"
                " at fault? The same command starts again"
            )
        with course.watchdog.section("rollback", step):
            self.resume()

    def _wait_for_writer(self) -> None:
        """The others wait for the rank that writes, and all find the same."""
        self._wait()
        votes.highest(self._course.state, 0)

    def _load(self, up_to: int | None = None) -> dict[str, Any] | None:
        """Take back a checkpoint, and what it counted; returns what it tells beside the tensors."""
        course = self._course
        damaged: list[Path] = []

        def on_fallback(path: Path, fault: str) -> None:
            damaged.append(path)
            course.journal.event("checkpoint_fallback", checkpoint=path.name, fault=fault)

        announced = course.journal.announced_checkpoint()
        found = checkpoint.resume(
            course.checkpoints, course.state, announced, on_fallback, course.phase.identity, up_to=up_to
        )
        self._require_same_step()
        self._agreement.forget()
        if course.state.rank == 0:
            checkpoint.set_aside(damaged)
        if found is not None:
            self._tally.validation.take_back(found)
            self._tally.guard.total = int(found["skipped"])
        return found

    def _require_same_step(self) -> None:
        """Raise ModelFileError unless all ranks found the same checkpoint."""
        highest, lowest = votes.highest(self._course.state, self._course.state.step, -self._course.state.step)
        if highest != -lowest:
            raise ModelFileError(
                f"{self._course.checkpoints}: ranks found different checkpoints (steps {-lowest} and {highest});"
                " runtime.workdir must be one folder that all machines share"
            )
