"""Tuning of a part of the weights: what was learnt on what it started from, for use and for export.

    weights of the phase before + what learnt (adapters, upper layers) --tuned--> weights of a whole model
                         what learnt (adapters) --export_adapter--> adapter/ as peft has it, beside the model

Invariant: a finished phase's folder holds only what learnt; the rest is the stage that it started from, by fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup import export
from groundup.errors import ModelFileError
from groundup.log import logger
from groundup.models import LowRankConfig, NetworkConfig, TuneConfig, build_model, tuning
from groundup.pipeline.context import Context
from groundup.pipeline.instruct_config import InstructConfig
from groundup.pipeline.preferences_config import PreferencesConfig
from groundup.pipeline.recipe import ANY_VOCAB_SIZE, Recipe
from groundup.train.state import TrainState


def flops_per_token(model: NetworkConfig, vocab_size: int, tune: TuneConfig) -> int:
    """Forward and backward of one token at full context, with what needs no gradient left out."""
    if isinstance(tune, LowRankConfig):
        return tuning.flops_per_token(model, vocab_size, tune)
    return model.flops_per_token(vocab_size)


def require_tune(recipe: Recipe) -> None:
    """Raise RecipeError, before any work is done, when the model cannot be tuned in the way that is asked for."""
    for section in (recipe.instruct, recipe.preferences):
        if section is not None and isinstance(section.tune, LowRankConfig):
            with torch.device("meta"):
                model = build_model(recipe.model, vocab_size=ANY_VOCAB_SIZE)
            tuning.attach(model, section.tune, section.layers.trained_layers if section.layers else None)


def what_learns(state: TrainState) -> dict[str, Any]:
    """The number of parameters that learn, where not all do."""
    learning = [parameter.numel() for parameter in state.model.parameters() if parameter.requires_grad]
    return {"trained_parameters": sum(learning)} if len(learning) < len(list(state.model.parameters())) else {}


def tuning_section(context: Context, phase: str) -> InstructConfig | PreferencesConfig | None:
    """The section of a phase that may tune a part of the weights; None for other phases."""
    recipe = context.recipe
    return {"instruct": recipe.instruct, "preferences": recipe.preferences}.get(phase)


def tuned(
    context: Context, tune: TuneConfig, base: Mapping[str, Tensor], learned: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights of the whole model after a phase that started from `base`."""
    if isinstance(tune, LowRankConfig):
        return tuning.merged(context.recipe.model, context.vocab_size, tune, base, learned)
    return {**base, **learned}


def low_rank(context: Context, phase: str) -> LowRankConfig | None:
    """How a phase's adapters are; None where it has none."""
    section = tuning_section(context, phase)
    return section.tune if section is not None and isinstance(section.tune, LowRankConfig) else None


def export_adapter(
    context: Context, phase: str, tune: LowRankConfig, learned: Mapping[str, Tensor], folder: Path
) -> dict[str, Any]:
    """Write the adapters of a phase as peft has them; {"adapter": bytes}.

    A model whose layout cannot say them is exported whole all the same, with a warning.
    """
    pretrain, starts_from = context.recipe.pretrain, context.done[phase].summary.get("starts_from", "pretrain")
    # Only of a model that is there for others as well; what phases before have changed has no name.
    base = pretrain.from_ if pretrain.tokens == 0 and starts_from == "pretrain" else None
    try:
        export.save_adapter(context.recipe.model, context.vocab_size, tune, learned, folder, base)
    except ModelFileError as error:
        logger.warning(f"no adapter folder: {error.message}")
        return {}
    return {"adapter_bytes": sum(path.stat().st_size for path in folder.iterdir())}
