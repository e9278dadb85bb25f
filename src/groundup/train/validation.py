"""Validations of a phase under way: when, what they found, and whether they end it.

    step --due--> figures on held-out data -> journal; where something depends on them also: loss -> is it the best?
                                              best: its weights are kept      too long none: the phase is over

Invariant: what is decided depends on the losses recorded so far only, and they lie in the checkpoints.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from groundup.errors import DataError
from groundup.train import checkpoint, votes
from groundup.train.average import weights_for_use
from groundup.train.meter import Stopwatch
from groundup.train.phase import Course
from groundup.train.stopping import best_validation, is_over


class Validation:
    """What was found so far: `figures` of the last time, and (step, loss) of each where something depends on them."""

    def __init__(self, course: Course, every_steps: int) -> None:
        decisive = course.phase.training.validation
        self.figures: dict[str, Any] = {}
        self.losses: list[tuple[int, float]] = []
        self._course, self._stopping = course, course.phase.training.early_stopping
        self._every_steps = decisive.every_steps if decisive else every_steps

    @property
    def due(self) -> bool:
        """Whether one follows on the last step."""
        step = self._course.state.step
        return step == self._course.total_steps or bool(self._every_steps and step % self._every_steps == 0)

    @property
    def ends_it(self) -> bool:
        """Whether it has not improved for too long."""
        return is_over(self._stopping, self.losses)

    @property
    def best(self) -> int | None:
        """Position of the best, where the phase looks for it."""
        return best_validation(self._stopping, self.losses) if self._stopping else None

    def take_back(self, saved: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint says."""
        self.figures = dict(saved["validation"])
        self.losses = [(int(step), float(loss)) for step, loss in saved.get("validations", [])]

    def measure(self, watch: Stopwatch, account: Callable[[], dict[str, Any]]) -> None:
        """Validate; `watch` is the phase's, `account()` what a checkpoint of the best is to tell.

        Raises DataError when something depends on the loss and there is no held-out data.
        """
        phase, state, journal = self._course.phase, self._course.state, self._course.journal
        with (
            self._course.watchdog.section("validation", state.step),
            weights_for_use(state.optimizer, state.average),
        ):
            self.figures = dict(phase.validate(state.model))
        if state.rank == 0:
            journal.metric(step=state.step, seconds=round(watch.seconds, 3), validation=self.figures)
        if phase.training.validation is not None:
            self._decide(account)

    def _decide(self, account: Callable[[], dict[str, Any]]) -> None:
        """Record the validation's loss, and keep the weights when it is the best."""
        phase, state, watchdog = self._course.phase, self._course.state, self._course.watchdog
        if "loss" not in self.figures:
            raise DataError(f"{phase.name}.validation: the validation split is empty; raise corpus.split.validation")
        with watchdog.section("validation", state.step):
            loss = votes.of_first_rank(state, float(self.figures["loss"]))
        self.losses.append((state.step, loss if math.isfinite(loss) else sys.float_info.max))
        if self._stopping is None:
            return
        if self.best == len(self.losses) - 1:
            with watchdog.section("checkpoint", state.step):
                checkpoint.save(self._course.best, state, account(), keep=1)
        if self.ends_it and state.rank == 0:
            self._course.journal.event("stopped_early", step=state.step, validations=len(self.losses))
