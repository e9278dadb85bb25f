"""Instruction tuning: conversations, and replayed text beside them, from the pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup import config, tokens
from groundup.log import logger
from groundup.pipeline.context import Context
from groundup.pipeline.instruct_config import InstructConfig
from groundup.pipeline.lambda_config import AutoLambda, Lambda, Ramp
from groundup.pipeline.mixtures import conversations, instruct_budget, instruct_mixture, instruct_objectives
from groundup.pipeline.phases import phase_identity, run_phase
from groundup.pipeline.trained import trained_weights
from groundup.tokens import Mixture, PackedConversations
from groundup.train.phase import Validate

PREVIEWS = 3


def instruct_identity(context: Context) -> Mapping[str, Any]:
    """What decides the tuned weights, beside the stages they come from."""
    return phase_identity(context, context.instruct())


def build_instruct(context: Context, work: Path) -> Mapping[str, Any]:
    """Conversations and replayed text, from the pretrained weights."""
    mixture = instruct_mixture(context, conversations(context))
    instruct, (weight, how) = instruct_budget(context.instruct(), mixture), _lambda(context)
    if not context.on_trial:
        _show_previews(context, mixture)
    summary = run_instruct(context, work, "instruct", instruct, mixture, weight)
    shown = config.to_dict(weight) if isinstance(weight, Ramp) else weight
    return {**summary, "lambda": shown, "lambda_chosen": how, "replay_fraction": instruct.replay_fraction}


def run_instruct(
    context: Context,
    work: Path,
    name: str,
    instruct: InstructConfig,
    mixture: Mixture,
    weight: Lambda,
    validate: Validate | None = None,
    mirrored: bool = True,
) -> Mapping[str, Any]:
    """Instruction tuning in `work` from the pretrained weights, for the phase itself and for trials of lambda alike."""
    return run_phase(
        context,
        work,
        name,
        instruct,
        (mixture, instruct_objectives(instruct, mixture, weight)),
        trained_weights(context, "pretrain"),
        validate,
        layers=instruct.layers,
        mirrored=mirrored,
        tune=instruct.tune,
    )


def _lambda(context: Context) -> tuple[Lambda, str]:
    """What the conversations weigh, and how that was decided."""
    asked = context.instruct().lambda_
    if isinstance(asked, AutoLambda):
        found = context.done["lambda"].summary
        return float(found["lambda"]), str(found["why"])
    return asked, "a course over the steps" if isinstance(asked, Ramp) else "set in the recipe"


def _show_previews(context: Context, mixture: Mixture) -> None:
    """Log three conversations as they are trained on, with what is learnt marked."""
    tokenizer = context.tokenizer()
    rows = next(source.rows for source in mixture.sources if isinstance(source.rows, PackedConversations))
    logger.info("three training examples; what the model learns to say is marked:")
    for index in range(min(PREVIEWS, rows.num_rows)):
        example = tokens.examples_of(rows.row(index * rows.num_rows // PREVIEWS))[0]
        preview = tokens.coloured_preview(tokenizer, example.ids, example.is_target, context.colour)
        logger.info(f"  {preview}", extra={"escaped": True})
