"""Proof that a run can be stopped and resumed: its own phases, a few steps of them, in a folder that goes away.

    four steps                                 -> checkpoint --hash--+
    two steps, stop, save; reload, two steps   -> checkpoint --hash--+-- equal to the bit, or refused with the file

Invariant: it trains by `loop.train` on the run's own data and runtime, and leaves the run as it was.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup import stage
from groundup.errors import DataError, Interrupted, ModelFileError, RecipeError, first_line
from groundup.pipeline.context import Context
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.recipe_file import load_recipe
from groundup.pipeline.run import TRAINED, run_folder, workdir
from groundup.pipeline.stages import StageKind, listed
from groundup.scratch import scratch_folder
from groundup.train.checkpoint import folder_name
from groundup.train.guards import StopRequest
from groundup.train.phase import CHECKPOINTS
from groundup.train.settings import TrainingConfig

STEPS, STOPPED_AT = 4, 2
PHASES = tuple(name for name in TRAINED if name in Recipe.model_fields)
"""Sections of a recipe that train; a search among them is many short ones."""


@dataclass(frozen=True)
class Proof:
    """What was tried of one phase; `state_hash` None where it could not be, `why` says why."""

    phase: str
    state_hash: str | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "phase": self.phase,
            "equal": self.state_hash is not None,
            "state_hash": self.state_hash,
            "why": self.why,
        }

    def line(self) -> str:
        """For people."""
        if self.state_hash is None:
            return f"resume  {self.phase}: not tried, {self.why}"
        return (
            f"resume  {self.phase}: stopped and saved after {STOPPED_AT} of {STEPS} steps, reloaded, equal to the bit"
            f" ({self.state_hash})"
        )


class _StopAfter(StopRequest):
    """Asks the loop to stop after some steps, as a signal does: it asks once a step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def requested(self) -> bool:
        self._left -= 1
        if self._left <= 0:
            self.signal = signal.SIGTERM
        return self.signal is not None


def prove_resume(run: Path, recipe: Recipe | None = None) -> list[Proof]:
    """Try each phase of training whose inputs are done, of a run's folder (or of the recipe that it belongs to).

    A run whose data is not here is not tried. Raises ModelFileError where a phase that was stopped ends otherwise.
    """
    try:
        return _prove_all(recipe or load_recipe(run / "recipe.yaml"))
    except (DataError, RecipeError) as error:
        return [Proof("run", None, first_line(error))]


def _prove_all(recipe: Recipe) -> list[Proof]:
    context = Context(_short(recipe), run_folder(recipe), StopRequest())
    whole = Context(recipe, run_folder(recipe), StopRequest(), done=context.done)
    proofs = []
    for kind in listed(recipe):
        missing = [name for name in kind.needs if name not in context.done]
        if kind.name in PHASES:
            if missing:
                proofs.append(Proof(kind.name, None, f"stage {missing[0]} is not done"))
            elif kind.name == "pretrain" and recipe.pretrain.tokens == 0:
                proofs.append(Proof(kind.name, None, "it takes its model as it is"))
            else:
                proofs.append(_prove(context, kind))
        found = None if missing else stage.finished(kind.stage(whole), workdir(recipe))
        if found is not None:
            context.done[kind.name] = found
    return proofs


def _short(recipe: Recipe) -> Recipe:
    """The same run with a few steps of each phase, and no checkpoint or validation before their end."""
    phases = {name: _shortened(phase) for name in PHASES if (phase := getattr(recipe, name)) is not None}
    quiet = {"checkpoint_every_seconds": 1e9, "validate_every_steps": 0, "validation_rows": 1}
    return recipe.model_copy(update={**phases, "runtime": recipe.runtime.model_copy(update=quiet)})


def _shortened(phase: TrainingConfig) -> TrainingConfig:
    budget = {"tokens": STEPS * phase.global_batch_tokens, "early_stopping": None}
    return phase.model_copy(update={**budget, **({"epochs": None} if "epochs" in type(phase).model_fields else {})})


def _prove(context: Context, kind: StageKind) -> Proof:
    root = workdir(context.recipe)
    with scratch_folder("verify", root) as scratch:
        hashes = []
        for name, stops in (("whole", [STEPS + 1]), ("parts", [STOPPED_AT, STEPS + 1])):
            work = scratch / name
            work.mkdir()
            for steps in stops:
                trial = Context(context.recipe, work / "run", _StopAfter(steps), done=dict(context.done), on_trial=True)
                try:
                    kind.build(trial, work)
                except Interrupted:
                    continue
            hashes.append(stage.verify(work / CHECKPOINTS / folder_name(STEPS)))
    (one, _), (other, _) = hashes
    if one != other:
        raise ModelFileError(
            f"{kind.name}: stopped after {STOPPED_AT} steps and resumed, it ends with other bits than without a stop"
            f" ({other[:12]}, not {one[:12]}); set runtime.exact=true, or report it"
        )
    return Proof(kind.name, one)
