"""What a finished phase left: its weights, and the model that has them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from groundup.models import Network, build_model
from groundup.pipeline import adapters
from groundup.pipeline.context import Context
from groundup.train import checkpoint
from groundup.train.loading import load_weights
from groundup.train.settings import FULL
from groundup.train.way import configure_threads, pick_device


def trained_weights(context: Context, phase: str) -> Mapping[str, torch.Tensor]:
    """Final weights of a finished phase, by parameter name: what it learnt, on what it started from."""
    learned = learned_weights(context, phase)
    section = adapters.tuning_section(context, phase)
    if section is None or (section.tune == FULL and section.layers is None):
        return learned
    start = str(context.done[phase].summary.get("starts_from", "pretrain"))
    return adapters.tuned(context, section.tune, trained_weights(context, start), learned)


def learned_weights(context: Context, phase: str) -> Mapping[str, torch.Tensor]:
    """What a finished phase left in its last checkpoint: all weights, or those that learnt."""
    found = context.done[phase]
    return checkpoint.read_tensors(found.path / str(found.summary["weights"]))


def trained_model(context: Context, phase: str, compute_dtype: torch.dtype = torch.float32) -> Network:
    """The model as a finished phase left it: float32 weights, computing in `compute_dtype`."""
    return model_with(context, trained_weights(context, phase), compute_dtype)


def model_with(context: Context, weights: Mapping[str, torch.Tensor], compute_dtype: torch.dtype) -> Network:
    """The recipe's model with these weights, to be asked."""
    recipe = context.recipe
    configure_threads(recipe.runtime)
    with torch.device("meta"):
        model = build_model(recipe.model, vocab_size=context.vocab_size)
    model.to_empty(device=pick_device(recipe.runtime))
    load_weights(model, weights)
    model.set_compute_dtype(compute_dtype)
    return model.eval()
