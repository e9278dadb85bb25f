"""How a phase of a recipe runs: mixture, objectives and a start -> the one training loop -> the stage's summary.

    pretraining.py    text of the train split                          random start, counted pairs or a model
    instruction.py    conversations, and replayed text beside them     the pretrained weights
    preferences.py, task.py                                            those of the phase before

Invariant: the phases differ in what is handed to `loop.train`, never in how it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from groundup import config, evaluate
from groundup.log import logger
from groundup.models import Network, NetworkConfig, TuneConfig
from groundup.optim import LayersConfig
from groundup.parallel import alone
from groundup.parallel.compile import uncompiled
from groundup.pipeline import adapters
from groundup.pipeline.changes import state_identity
from groundup.pipeline.context import Context
from groundup.pipeline.mixtures import text_rows
from groundup.tokens import JoinedRows, Mixture, SelectedRows, Tokenizer
from groundup.train import checkpoint, loop
from groundup.train.journal import Journal
from groundup.train.phase import CHECKPOINTS, Phase, Validate
from groundup.train.settings import FULL, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives
from groundup.train.way import configure_threads, pick_device, way_to_compute


def phase_identity(context: Context, phase: TrainingConfig) -> Mapping[str, Any]:
    """What decides the weights of a phase: all but the conversations' paths; their content enters by their stage."""
    training = {key: value for key, value in config.to_dict(phase).items() if key not in ("sources", "heldout")}
    return {"model": config.to_dict(context.recipe.model), "training": training, "seed": context.recipe.seed}


def run_phase(
    context: Context,
    work: Path,
    name: str,
    training: TrainingConfig,
    data: tuple[Mixture, Objectives],
    start: Mapping[str, torch.Tensor] | Callable[[TrainState], None],
    validate: Validate | None = None,
    model: NetworkConfig | None = None,
    layers: LayersConfig | None = None,
    mirrored: bool = True,
    tune: TuneConfig = FULL,
) -> Mapping[str, Any]:
    """Train in `work` to the end of the phase's budget, going on from what is there; returns the stage's summary.

    With several ranks the first lets the others train with it, each of which gets here by the same way.

    `validate`: bits per byte of held-out text when None. `model`: the recipe's when None; `layers`: which of it learn;
    `mirrored`: the run's folder gets the lines and events too; `tune`: whole or by adapters.
    """
    recipe, execution, tokenizer = context.recipe, context.recipe.runtime, context.tokenizer()
    model = model or recipe.model
    mixture, objectives = data
    ranks = context.ranks
    if ranks is not None and ranks.leads:
        ranks.say({"train": name, "work": str(work)})
    configure_threads(execution, processes=ranks.place.local_world_size if ranks is not None else 1)
    device, vocab_size = pick_device(execution), tokenizer.vocab_size
    flops_per_token = adapters.flops_per_token(model, vocab_size, tune)
    state = build_state(
        model,
        vocab_size,
        training,
        execution,
        recipe.seed,
        device=device,
        mesh=ranks.mesh(device.type) if ranks is not None else alone(execution.parallel, device.type),
        start=start if isinstance(start, Mapping) else None,
        layers=layers,
        tune=tune,
    )
    if callable(start) and not checkpoint.are_there(work / CHECKPOINTS):
        start(state)
    _say_what_never_learns(name, state, training.total_steps())
    del start  # whole weights, which are in the state now
    phase = Phase(
        name=name,
        training=training,
        mixture=mixture,
        objectives=objectives,
        validate=validate or _validation(context, tokenizer, training),
        flops_per_token=flops_per_token,
        identity=state_identity(context.working_on),
    )
    journal = Journal(name, work, context.run_folder if mirrored else None, writes=context.leads)
    context.tell_restart(journal)
    summary = loop.train(phase, state, execution, work, journal, context.stop, context.faults, context.end)
    return {
        **summary,
        "parameters": model.num_parameters(vocab_size),
        **adapters.what_learns(state),
        "flops_per_token": flops_per_token,
        "epochs": {source: round(value, 3) for source, value in mixture.epochs(summary["steps"]).items()},
        "computed_by": way_to_compute(execution, model, training, vocab_size, device),
    }


def _say_what_never_learns(name: str, state: TrainState, steps: int) -> None:
    """Layers whose turn does not come in the phase: recipes with a budget in epochs are judged here only."""
    late = [group for group in state.optimizer.param_groups if group.get("first_step", 0) >= steps]
    if late:
        last, first = max(group["first_step"] for group in late), late[0]["names"][0]
        logger.warning(
            f"{name}: {first} and others never learn: with layers.unfreeze_every_steps their turn comes up to step "
            f"{last}, the phase has {steps}"
        )


def _validation(context: Context, tokenizer: Tokenizer, training: TrainingConfig) -> Validate:
    """Bits per byte on an even selection of the validation rows of all sources."""
    parts = list(text_rows(context, "validation").values())
    if not parts:
        return lambda model: {}
    limit = training.validation.rows if training.validation else context.recipe.runtime.validation_rows
    rows = SelectedRows(JoinedRows("validation", parts), limit)

    def validate(model: Network) -> Mapping[str, Any]:
        # Eagerly: a second compiled graph, without gradients, would cost more than the few rows save.
        with uncompiled():
            return evaluate.measure_text(model, rows, tokenizer).summary()

    return validate
