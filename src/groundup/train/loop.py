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
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from groundup.errors import DataError, GroundupError, ModelFileError, ResourceError
from groundup.log import Progress, logger, progress
from groundup.optim import learning_rate_factor
from groundup.tokens import Mixture
from groundup.train import checkpoint
from groundup.train.agreement import Agreement, Difference
from groundup.train.attempts import HUNG, Attempts
from groundup.train.average import weights_for_use
from groundup.train.faults import Fault, Faults
from groundup.train.guards import DivergenceGuard, StopRequest
from groundup.train.journal import Journal
from groundup.train.layout import rows_per_micro_batch
from groundup.train.meter import Stopwatch, measured_peak_flops, peak_memory_bytes
from groundup.train.saving import Saver
from groundup.train.settings import ExecutionConfig, TrainingConfig, dtype_of
from groundup.train.shortage import MicroBatching
from groundup.train.spikes import SpikeGuard
from groundup.train.state import TrainState
from groundup.train.step import Objectives, StepResult, train_step
from groundup.train.stopping import best_validation, is_over
from groundup.train.watchdog import Watchdog, end_at_once

CHECKPOINTS = "checkpoints"
BEST = "best"
"""Folder of the checkpoint with the best validation, where early stopping looks for it."""
Validate = Callable[[Any], Mapping[str, Any]]
"""Model -> figures on held-out data; each phase measures its own kind of model."""


@dataclass(frozen=True)
class Phase:
    """What tells one phase from another: its data, its objectives, its budget."""

    name: str
    training: TrainingConfig
    mixture: Mixture
    objectives: Objectives
    validate: Validate
    """Model -> {bits_per_byte, loss, n_bytes} on held-out text."""
    flops_per_token: float
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What its result depends on, as the stage says it: a checkpoint of another identity is refused."""


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

    timeouts = {name: getattr(execution, f"{name}_timeout_seconds") for name in ("step", "checkpoint", "validation")}
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
        loop = _Loop(phase, state, execution, folder, journal, watchdog, Faults(tuple(faults), state.rank))
        with loop.saver.closed(), stop.deferred(), progress(phase.name, loop.total_steps, "steps") as bar:
            bar.start_at(state.step)
            while not loop.over:
                if loop.one_step(bar) and not loop.after_step(stop):
                    bar.start_at(state.step)
        loop.finish()
    return {**loop.summary(), "effective_training": attempts.summary()}


class _Loop:
    def __init__(
        self,
        phase: Phase,
        state: TrainState,
        execution: ExecutionConfig,
        folder: Path,
        journal: Journal,
        watchdog: Watchdog,
        faults: Faults,
    ) -> None:
        self.phase, self.state, self.journal, self.watchdog, self.faults = phase, state, journal, watchdog, faults
        decisive = phase.training.validation
        self.validate_every_steps = decisive.every_steps if decisive else execution.validate_every_steps
        self.checkpoint_every_seconds = execution.checkpoint_every_seconds
        self.folder = folder
        self.checkpoints = folder / CHECKPOINTS
        self.total_steps = phase.training.total_steps()
        self.rows_of_rank = phase.mixture.rows_per_step // state.data_size
        rows = rows_per_micro_batch(execution, phase.mixture.context_length, self.rows_of_rank, state.data_size)
        self.micro_batching = MicroBatching(rows, self.rows_of_rank)
        self.guard = DivergenceGuard(phase.training.max_skipped_steps)
        self.spikes = SpikeGuard(phase.training.spikes)
        self.agreement = Agreement(execution.check_ranks_every_steps, state)
        self.saver = Saver(
            self.checkpoints,
            execution.keep_checkpoints,
            execution.asynchronous_checkpoints,
            on_saved=lambda path: journal.event(
                "checkpoint_saved", step=checkpoint.step_of(path), checkpoint=path.name
            ),
            on_failed=lambda step, fault: journal.event("checkpoint_failed", step=step, fault=fault),
            before_write=faults.before_write,
        )
        self.validation: dict[str, Any] = {}
        self.validations: list[tuple[int, float]] = []
        self.watch = Stopwatch(self._resume())
        self.saved_at = time.monotonic()
        dtype = dtype_of(phase.training.precision)
        self.peak_flops = measured_peak_flops(state.device, dtype) * state.world_size

    def _resume(self) -> float:
        """Load the newest good checkpoint; returns the seconds that earlier attempts trained."""
        if self.state.rank == 0:
            for folder in (self.checkpoints, self.folder / BEST):
                checkpoint.remove_leftovers(folder)
            # Known to be needed whatever the optimizer keeps: a disk without it is refused before the first step.
            weights = sum(p.numel() * p.element_size() for p in self.state.model.parameters())
            checkpoint.require_room(self.checkpoints, weights)
        found = self._load()
        earlier_seconds = self.journal.take_back_after(self.state.step)
        if found is None:
            if self.spikes.goes_back:
                self._save()
            return 0.0
        self.journal.event("resumed", step=self.state.step, world_size=self.state.world_size)
        logger.info(f"{self.phase.name}: resumed at step {self.state.step} of {self.total_steps}")
        self.spikes.take_back(found.get("spikes", {}))
        if "micro_batch" in found:
            self.micro_batching.take_back(found["micro_batch"])
        return earlier_seconds

    def _load(self, up_to: int | None = None) -> dict[str, Any] | None:
        """Take back a checkpoint, and what it counted; returns what it tells beside the tensors."""

        damaged: list[Path] = []

        def on_fallback(path: Path, fault: str) -> None:
            damaged.append(path)
            self.journal.event("checkpoint_fallback", checkpoint=path.name, fault=fault)

        announced = self.journal.announced_checkpoint()
        found = checkpoint.resume(
            self.checkpoints, self.state, announced, on_fallback, self.phase.identity, up_to=up_to
        )
        self._require_same_step()
        self.agreement.forget()
        if self.state.rank == 0:
            checkpoint.set_aside(damaged)
        if found is not None:
            self.validation = dict(found["validation"])
            self.validations = [(int(step), float(loss)) for step, loss in found.get("validations", [])]
            self.guard.total = int(found["skipped"])
        return found

    def _require_same_step(self) -> None:
        """Raise ModelFileError unless all ranks found the same checkpoint."""
        highest, lowest = self._highest(self.state.step, -self.state.step)
        if highest != -lowest:
            raise ModelFileError(
                f"{self.checkpoints}: ranks found different checkpoints (steps {-lowest} and {highest});"
                " runtime.workdir must be one folder that all machines share"
            )

    @property
    def over(self) -> bool:
        """Whether the budget is spent, or validation has not improved for too long."""
        return self.state.step >= self.total_steps or is_over(self.phase.training.early_stopping, self.validations)

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
                self._go_back(loss, limit)
                bar.start_at(self.state.step)
                return False
        if (self.agreement.due(self.state.step) or self._validates()) and not self._ranks_agree():
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
        return learning_rate_factor(self.phase.training.schedule, self.state.step, self.total_steps, self.validations)

    def _validates(self) -> bool:
        """Whether a validation follows on the last step."""
        every = self.validate_every_steps
        return self.state.step == self.total_steps or bool(every and self.state.step % every == 0)

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

    def _go_back(self, loss: float, limit: float) -> None:
        """To the last good checkpoint before the jump, and from there on without the batches around it."""
        spike = self.state.step - 1
        self.saver.wait()
        self._highest(0)  # the others wait for the rank that writes, and all find the same
        with self.watchdog.section("rollback", spike + 1):
            found = self._load(up_to=self.spikes.first_left_out(spike))
        assert found is not None, "where a rule goes back, the phase began with a checkpoint"
        first = max(self.spikes.first_left_out(spike), self.state.step)
        if self.state.rank == 0:
            checkpoint.remove(checkpoint.newer_than(self.checkpoints, self.state.step))
        self.spikes.losses = list(found.get("spikes", {}).get("losses", ()))
        batches = self.spikes.leave_out(first, spike)
        self.journal.take_back_after(self.state.step)
        what = f"loss {loss:.3g} above {limit:.3g}: back to step {self.state.step}"
        logger.warning(f"step {spike + 1}: {what}, leaving out batches {batches[0]} to {batches[1]}")
        about: dict[str, Any] = {"loss": loss, "limit": limit, "to_step": self.state.step, "number": self.spikes.total}
        self.journal.event("rollback", step=spike + 1, batches_left_out=list(batches), **about)

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
            self._go_back_to_agreement(difference)
        return difference is None

    def _go_back_to_agreement(self, difference: Difference) -> None:
        """To the last checkpoint: none is saved of ranks that differ."""
        step = self.state.step
        logger.error(f"step {step}: copies of the same tensors differ: {difference.where}; going back")
        about: dict[str, Any] = {"ranks": list(difference.ranks), "names": list(difference.names)}
        self.journal.event("ranks_differ", step=step, **about)
        self.saver.wait()
        self._highest(0)  # the others wait for the rank that writes, and all find the same
        if not checkpoint.are_there(self.checkpoints):
            raise ResourceError(
                f"step {step}: copies differ ({difference.where}) and no checkpoint is there yet; memory or processor"
                " at fault? The same command starts again"
            )
        with self.watchdog.section("rollback", step):
            self._resume()

    def after_step(self, stop: StopRequest) -> bool:
        """Validate, save and stop where it is time to; all ranks decide the same. False: the run went back instead."""
        if self._validates():
            self._validate()
        due = time.monotonic() - self.saved_at >= self.checkpoint_every_seconds
        asked = int(stop.signal or 0) if stop.requested else 0
        with self.watchdog.section("step", self.state.step):  # another rank may hang before it votes
            came, saving, writing = self._highest(asked, int(due), int(self.saver.busy))
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

    def _highest(self, *values: int) -> list[int]:
        """Of each value the highest on any rank."""
        if self.state.world_size == 1:
            return list(values)
        votes = torch.tensor(values, dtype=torch.int64, device=self.state.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [int(vote) for vote in votes.tolist()]

    def _of_first_rank(self, value: float) -> float:
        """The first rank's value: what depends on it must not differ where another kind of machine rounds otherwise."""
        if self.state.world_size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.state.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def _validate(self) -> None:
        with (
            self.watchdog.section("validation", self.state.step),
            weights_for_use(self.state.optimizer, self.state.average),
        ):
            self.validation = dict(self.phase.validate(self.state.model))
        if self.state.rank == 0:
            self.journal.metric(step=self.state.step, seconds=round(self.watch.seconds, 3), validation=self.validation)
        if self.phase.training.validation is not None:
            self._decide()

    def _decide(self) -> None:
        """Record the validation's loss, and keep the weights when it is the best."""
        if "loss" not in self.validation:
            raise DataError(
                f"{self.phase.name}.validation: the validation split is empty; raise corpus.split.validation"
            )
        with self.watchdog.section("validation", self.state.step):
            loss = self._of_first_rank(float(self.validation["loss"]))
        self.validations.append((self.state.step, loss if math.isfinite(loss) else sys.float_info.max))
        stopping = self.phase.training.early_stopping
        if stopping is None:
            return
        if best_validation(stopping, self.validations) == len(self.validations) - 1:
            with self.watchdog.section("checkpoint", self.state.step):
                checkpoint.save(self.folder / BEST, self.state, self._account(), keep=1)
        if is_over(stopping, self.validations) and self.state.rank == 0:
            self.journal.event("stopped_early", step=self.state.step, validations=len(self.validations))

    def _save(self) -> None:
        with self.watchdog.section("checkpoint", self.state.step):
            self.saver.save(self.state, self._account(), self.phase.identity)
        self.saved_at = time.monotonic()

    def _account(self) -> dict[str, Any]:
        """What a checkpoint tells beside the tensors."""
        # Nothing that differs from run to run, as times do: equal training gives equal bytes, manifest included.
        return {
            "phase": self.phase.name,
            "tokens_seen": self.state.step * self.phase.training.global_batch_tokens,
            "validation": self.validation,
            "skipped": self.guard.total,
            **({"validations": self.validations} if self.validations else {}),
            **self.spikes.account(),
            **self.micro_batching.account(),
        }

    def _best(self) -> int | None:
        """Position of the best validation, where the phase looks for it."""
        stopping = self.phase.training.early_stopping
        return best_validation(stopping, self.validations) if stopping else None

    def _result(self) -> Path:
        """The weights that the phase is about, relative to its folder: the best where it looked for them."""
        best = self._best()
        kept = f"{CHECKPOINTS}/step-{self.state.step:08d}"
        if best is not None:
            kept = f"{BEST}/step-{self.validations[best][0]:08d}"
        return Path(kept) / checkpoint.weights_file(self.folder / kept)

    def finish(self) -> None:
        """Leave only the last checkpoint, which is the phase's result, in whole tensors whatever the ranks."""
        if self.state.rank == 0:
            for folder in (self.checkpoints, self.folder / BEST):
                checkpoint.remove_leftovers(folder)
                checkpoint.consolidate(folder)
            checkpoint.prune(self.checkpoints, keep=1)
            checkpoint.remove_damaged(self.checkpoints)

    def summary(self) -> dict[str, Any]:
        """Figures of the phase for manifests and reports."""
        seconds, best = self.watch.seconds, self._best()
        return {
            "weights": self._result().as_posix(),
            "steps": self.state.step,
            "tokens": self.state.step * self.phase.training.global_batch_tokens,
            "skipped_steps": self.guard.total,
            **({"spikes": self.spikes.total, "left_out": self.spikes.left_out} if self.spikes.config else {}),
            "validation": self.validation,
            **({"best_validation": dict(zip(("step", "loss"), self.validations[best]))} if best is not None else {}),
            "train_seconds": round(seconds, 2),
            "peak_memory_bytes": peak_memory_bytes(self.state.device),
            "world_size": self.state.world_size,
            "micro_batch_rows": self.micro_batching.rows,
            "earlier_seconds": round(self.watch.earlier_seconds, 2),
        }
