"""The loop around the step, for every phase: resume, step, log, validate, checkpoint, stop when asked.

    resume -> [ batch(step) -> train_step -> journal -> validate? -> checkpoint? -> stop? ]* -> last checkpoint
                    ^               |
                    +-- rollback ---+  where the loss jumped and the recipe says so

Invariant: what a step does depends on the state and the step number only, so a run killed at any moment and resumed
ends with the same bits as one never killed.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groundup.errors import GroundupError
from groundup.log import Progress, logger, progress
from groundup.optim import learning_rate_factor
from groundup.train import checkpoint, votes
from groundup.train.agreement import Agreement
from groundup.train.attempts import HUNG, Attempts
from groundup.train.faults import Fault, Faults
from groundup.train.guards import DivergenceGuard, StopRequest
from groundup.train.journal import Journal
from groundup.train.layout import rows_per_micro_batch
from groundup.train.meter import Stopwatch, measured_peak_flops, peak_memory_bytes
from groundup.train.phase import BEST, CHECKPOINTS, Course, Phase
from groundup.train.resuming import Tally, WayBack
from groundup.train.saving import Saver
from groundup.train.settings import ExecutionConfig, dtype_of
from groundup.train.shortage import MicroBatching
from groundup.train.spikes import SpikeGuard
from groundup.train.state import TrainState
from groundup.train.step import StepResult, train_step
from groundup.train.validation import Validation
from groundup.train.watchdog import Watchdog, end_at_once

TIMEOUTS = {
    "step": "step",
    "agreement": "step",
    "checkpoint": "checkpoint",
    "rollback": "checkpoint",
    "validation": "validation",
}
"""Section that the watchdog looks at -> whose time-out a recipe sets for it."""


def train(
    phase: Phase,
    state: TrainState,
    execution: ExecutionConfig,
    folder: Path,
    journal: Journal,
    stop: StopRequest,
    faults: Sequence[Fault] = (),
    end: Callable[[GroundupError], Any] = end_at_once,
) -> dict[str, Any]:
    """Train `state` to the end of the phase's budget inside `folder`; returns the phase's summary.

    `end(error)` ends this process where it hangs.
    Raises Interrupted (state saved) when asked to stop, DivergedError, ModelFileError (no good checkpoint, or one of
    another identity), ResourceError, CrashLoopError.
    """
    attempts = Attempts(journal, execution.max_failed_attempts, writes=state.rank == 0)

    def on_hang(facts: dict[str, Any], speaks: bool) -> None:
        if speaks:
            journal.event("watchdog", by_any_rank=True, **facts)
        attempts.end(HUNG)

    timeouts = {section: getattr(execution, f"{asked}_timeout_seconds") for section, asked in TIMEOUTS.items()}
    watchdog = Watchdog(
        journal.folder,
        phase.name,
        state.rank,
        timeouts,
        on_hang,
        world_size=state.world_size,
        on_straggler=lambda facts: journal.event("straggler", **facts),
        end=end,
    )
    with attempts.recorded(), watchdog:
        course = Course(phase, state, folder, journal, watchdog)
        loop = _Loop(course, execution, Faults(tuple(faults), state.rank))
        with loop.saver.closed(), stop.deferred(), progress(phase.name, loop.total_steps, "steps") as bar:
            bar.start_at(state.step)
            while not loop.over:
                if loop.one_step(bar) and not loop.after_step(stop):
                    bar.start_at(state.step)
        loop.finish()
    return {**loop.summary(), "effective_training": attempts.summary()}


class _Loop:
    def __init__(self, course: Course, execution: ExecutionConfig, faults: Faults) -> None:
        self.course, self.phase, self.state = course, course.phase, course.state
        self.journal, self.watchdog, self.faults = course.journal, course.watchdog, faults
        self.checkpoint_every_seconds = execution.checkpoint_every_seconds
        self.total_steps = course.total_steps
        self.rows_of_rank = self.phase.mixture.rows_per_step // self.state.data_size
        rows = rows_per_micro_batch(
            execution, self.phase.mixture.context_length, self.rows_of_rank, self.state.data_size
        )
        self.micro_batching = MicroBatching(rows, self.rows_of_rank)
        self.guard = DivergenceGuard(self.phase.training.max_skipped_steps)
        self.spikes = SpikeGuard(self.phase.training.spikes)
        self.validation = Validation(course, execution.validate_every_steps)
        self.tally = Tally(self.validation, self.guard, self.spikes, self.micro_batching)
        self.agreement = Agreement(execution.check_ranks_every_steps, self.state)
        self.saver = Saver(
            course.checkpoints,
            execution.keep_checkpoints,
            execution.asynchronous_checkpoints,
            on_saved=lambda path: self.journal.event(
                "checkpoint_saved", step=checkpoint.step_of(path), checkpoint=path.name
            ),
            on_failed=lambda step, fault: self.journal.event("checkpoint_failed", step=step, fault=fault),
            before_write=faults.before_write,
        )
        self.way_back = WayBack(course, self.tally, self.agreement, self._save, self.saver.wait)
        self.watch = Stopwatch(self.way_back.resume())
        self.saved_at = time.monotonic()
        dtype = dtype_of(self.phase.training.precision)
        self.peak_flops = measured_peak_flops(self.state.device, dtype) * self.state.world_size

    @property
    def over(self) -> bool:
        """Whether the budget is spent, or validation has not improved for too long."""
        return self.state.step >= self.total_steps or self.validation.ends_it

    def one_step(self, bar: Progress) -> bool:
        """Make the rank's micro-batches, do the step, write its line; False when the run went back instead."""
        with self.watchdog.section("step", self.state.step + 1):
            self.watch.restart_lap()
            factor = self._rate_factor()
            limit = self.spikes.limit
            self.faults.before_step(self.state)
            result = self.micro_batching.step(self.state, lambda rows: self._step(rows, factor, limit), self._on_halved)
            loss, grad_norm, updated = float(result.loss), float(result.grad_norm), bool(result.updated)
            seconds = self.watch.lap()
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        if finite and not updated:
            self.spikes.count(self.state.step, loss, limit)
            if self.spikes.goes_back:
                self.way_back.before_jump(loss, limit)
                bar.start_at(self.state.step)
                return False
        if (self.agreement.due(self.state.step) or self.validation.due) and not self._ranks_agree():
            bar.start_at(self.state.step)
            return False
        if updated:
            self.spikes.accept(loss)
        self._record(result, loss, grad_norm, factor, seconds, updated)
        rate = self.phase.training.global_batch_tokens / seconds
        bar.advance(1, f"loss {loss:.3f}, {rate:,.0f} tokens/s")
        self.guard.total += finite and not updated
        self.guard.observe(self.state.step, finite, loss)
        return True

    def _rate_factor(self) -> float:
        """Of the step that comes next."""
        return learning_rate_factor(
            self.phase.training.schedule, self.state.step, self.total_steps, self.validation.losses
        )

    def _step(self, rows: int, factor: float, loss_limit: float) -> StepResult:
        first = self.state.data_rank * self.rows_of_rank
        batch = self.spikes.batch(self.state.step)
        with self.faults.during_step(self.state):
            return train_step(
                self.state,
                [
                    self.phase.mixture.batch(batch, at, rows).to(self.state.device)
                    for at in range(first, first + self.rows_of_rank, rows)
                ],
                self.phase.objectives.at(self.state.step),
                learning_rate_factor=factor,
                max_grad_norm=self.phase.training.max_grad_norm,
                loss_limit=loss_limit,
            )

    def _on_halved(self, before: int, after: int) -> None:
        step = self.state.step + 1
        logger.warning(f"step {step}: out of memory with {before} rows at a time; going on with {after}")
        self.journal.event("micro_batch_halved", step=step, rows_before=before, rows=after)

    def _record(
        self, result: StepResult, loss: float, grad_norm: float, factor: float, seconds: float, updated: bool
    ) -> None:
        if self.state.rank != 0:
            return
        step, tokens = self.state.step, self.phase.training.global_batch_tokens
        by_source = zip(self.phase.objectives.loss_names, result.source_losses.tolist())
        if not updated:
            self.journal.event("step_skipped", step=step, loss=loss, grad_norm=grad_norm)
        self.journal.metric(
            step=step,
            total_steps=self.total_steps,
            tokens_seen=step * tokens,
            loss=loss,
            **{f"loss_{name}": value for name, value in by_source},
            grad_norm=grad_norm,
            learning_rate=self.phase.training.optimizer.learning_rate * factor,
            **self.phase.objectives.at(step - 1).named_weights(),
            tokens_per_second=round(tokens / seconds, 1),
            mfu=round(tokens / seconds * self.phase.flops_per_token / self.peak_flops, 4),
            peak_memory_bytes=peak_memory_bytes(self.state.device),
            sample_ids_hash=self.phase.mixture.sample_ids_hash(self.spikes.batch(step - 1)),
            skipped=not updated,
            **({"state_digest": self.agreement.digest} if self.agreement.is_of(step) else {}),
            targets=int(result.targets),
            seconds=round(self.watch.seconds, 3),
        )

    def _ranks_agree(self) -> bool:
        """Whether all ranks hold the same where they should; if not, the run is back at its last checkpoint."""
        with self.watchdog.section("agreement", self.state.step):
            difference = self.agreement.find(self.state, self._rate_factor())
        if difference is not None:
            self.way_back.to_agreement(difference)
        return difference is None

    def after_step(self, stop: StopRequest) -> bool:
        """Validate, save and stop where it is time to; all ranks decide the same. False: the run went back instead."""
        if self.validation.due:
            self.validation.measure(self.watch, lambda: self.tally.account(self.course))
        due = time.monotonic() - self.saved_at >= self.checkpoint_every_seconds
        asked = int(stop.signal or 0) if stop.requested else 0
        with self.watchdog.section("step", self.state.step):  # another rank may hang before it votes
            came, saving, writing = votes.highest(self.state, asked, int(due), int(self.saver.busy))
        if not writing:
            self.saver.settle()
        if came or saving or self.over:
            if not self._ranks_agree():
                return False
            self._save()
        if came or self.over:
            with self.watchdog.section("checkpoint", self.state.step):
                self.saver.wait()
        if came and not self.over:
            saved = f"{self.phase.name} saved at step {self.state.step} of {self.total_steps}"
            error = stop.interrupted(saved, signal.Signals(came))
            name = "preempted" if error.exit_code == 75 else "interrupted"
            self.journal.event(name, step=self.state.step)
            raise error
        return True

    def _save(self) -> None:
        with self.watchdog.section("checkpoint", self.state.step):
            self.saver.save(self.state, self.tally.account(self.course), self.phase.identity)
        self.saved_at = time.monotonic()

    def _result(self) -> Path:
        """The weights that the phase is about, relative to its folder: the best where it looked for them."""
        best = self.validation.best
        kept = f"{CHECKPOINTS}/step-{self.state.step:08d}"
        if best is not None:
            kept = f"{BEST}/step-{self.validation.losses[best][0]:08d}"
        return Path(kept) / checkpoint.weights_file(self.course.folder / kept)

    def finish(self) -> None:
        """Leave only the last checkpoint, which is the phase's result, in whole tensors whatever the ranks."""
        if self.state.rank == 0:
            for folder in (self.course.checkpoints, self.course.best):
                checkpoint.remove_leftovers(folder)
                checkpoint.consolidate(folder)
            checkpoint.prune(self.course.checkpoints, keep=1)
            checkpoint.remove_damaged(self.course.checkpoints)

    def summary(self) -> dict[str, Any]:
        """Figures of the phase for manifests and reports."""
        seconds, best = self.watch.seconds, self.validation.best
        return {
            "weights": self._result().as_posix(),
            "steps": self.state.step,
            "tokens": self.state.step * self.phase.training.global_batch_tokens,
            "skipped_steps": self.guard.total,
            **({"spikes": self.spikes.total, "left_out": self.spikes.left_out} if self.spikes.config else {}),
            "validation": self.validation.figures,
            **(
                {"best_validation": dict(zip(("step", "loss"), self.validation.losses[best]))}
                if best is not None
                else {}
            ),
            "train_seconds": round(seconds, 2),
            "peak_memory_bytes": peak_memory_bytes(self.state.device),
            "world_size": self.state.world_size,
            "micro_batch_rows": self.micro_batching.rows,
            "earlier_seconds": round(self.watch.earlier_seconds, 2),
        }
