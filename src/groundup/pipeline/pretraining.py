"""Pretraining: text of the train split, from random weights, from counted pairs of tokens or from a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from groundup import tokens
from groundup.log import logger
from groundup.models import DecoderConfig, build_model
from groundup.models.bigrams import affordable_steps
from groundup.pipeline.context import Context
from groundup.pipeline.mixtures import pretrain_data
from groundup.pipeline.phases import phase_identity, run_phase
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.start import foreign_start, start_identity
from groundup.tokens import Mixture
from groundup.train import checkpoint
from groundup.train.loading import load_weights
from groundup.train.phase import CHECKPOINTS
from groundup.train.start import start_from_bigrams
from groundup.train.state import TrainState

BIGRAM_TOKENS = 2**24
"""Text that is counted for a start from bigrams, at most; enough for the pairs that matter."""


def pretrain_identity(context: Context) -> Mapping[str, Any]:
    """What decides the pretrained weights, beside the shards; of a model to start from, the content of its files."""
    path = context.recipe.pretrain.from_
    identity = phase_identity(context, context.recipe.pretrain)
    return {**identity, "training": {**identity["training"], "from": None if path is None else start_identity(path)}}


def build_pretrain(context: Context, work: Path) -> Mapping[str, Any]:
    """Prediction of text of the train split, from random weights, counted pairs of tokens or a model."""
    recipe, data = context.recipe, pretrain_data(context)
    if recipe.pretrain.tokens == 0:
        return _taken_as_it_is(context, work)

    def start(state: TrainState) -> None:
        if recipe.pretrain.counted:
            _start_from_bigrams(state, data[0], recipe)
        if recipe.pretrain.from_ is not None:
            _start_from_model(state, recipe.pretrain.from_, recipe)

    return run_phase(context, work, "pretrain", recipe.pretrain, data, start)


def _start_from_model(state: TrainState, path: str, recipe: Recipe) -> None:
    """The weights of a model from elsewhere, with a row for each token of this run's tokenizer."""
    vocab_size = state.model.vocab_size
    start = foreign_start(path, recipe.model, vocab_size, recipe.seed)
    load_weights(state.model, start)
    rows = start.rows_in_file
    logger.info(f"pretrain: starts from {path}; its table has {rows:,} rows, the tokenizer {vocab_size:,} tokens")
    if start.new:
        logger.info(f"pretrain: the files have no heads; new are {', '.join(start.new)}")


def _taken_as_it_is(context: Context, work: Path) -> Mapping[str, Any]:
    """A budget of no tokens: the model of `pretrain.from` as a finished phase, for instruction tuning or evaluation."""
    recipe, vocab_size = context.recipe, context.vocab_size
    assert recipe.pretrain.from_ is not None, "the recipe's check: tokens 0 goes with `from`"
    with torch.device("meta"):
        model = build_model(recipe.model, vocab_size=vocab_size)
    model.to_empty(device="cpu")
    start = foreign_start(recipe.pretrain.from_, recipe.model, vocab_size, recipe.seed)
    load_weights(model, start)
    if start.new:
        logger.warning(
            "pretrain: the files have no heads, and none is trained with tokens: 0, so nothing is said of masked words"
        )
    folder = work / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    save_file({name: p.detach() for name, p in model.named_parameters()}, folder / checkpoint.WEIGHTS)
    return {
        "weights": f"{CHECKPOINTS}/{checkpoint.WEIGHTS}",
        "steps": 0,
        "tokens": 0,
        "skipped_steps": 0,
        "validation": {},
        "train_seconds": 0.0,
        "rows_in_file": start.rows_in_file,
        "new": start.new,
        "parameters": recipe.model.num_parameters(vocab_size),
        "flops_per_token": recipe.model.flops_per_token(vocab_size),
        "epochs": {},
    }


def _start_from_bigrams(state: TrainState, mixture: Mixture, recipe: Recipe) -> None:
    """Count the pairs of the first rows of training, at most once through all text, and fit the tables to them."""
    began = time.monotonic()
    whole = -(-sum(source.rows.num_rows for source in mixture.sources) // mixture.rows_per_step)
    steps = min(whole, max(1, BIGRAM_TOKENS // recipe.pretrain.global_batch_tokens))
    batches = (mixture.batch(step, 0, mixture.rows_per_step) for step in range(steps))
    counted = tokens.count_bigrams(batches, state.model.vocab_size)
    fit_steps, induction = _fit_steps(recipe, state.model.vocab_size), recipe.pretrain.start == "induction"
    start_from_bigrams(state, counted, fit_steps, recipe.seed, recipe.pretrain, induction=induction)
    logger.info(
        f"pretrain: starts from {int(counted.counts.sum()):,} pairs of tokens ({len(counted.counts):,} distinct), "
        f"counted and fitted in {time.monotonic() - began:.1f} s"
    )


def _fit_steps(recipe: Recipe, vocab_size: int) -> int:
    assert isinstance(recipe.model, DecoderConfig), "a recipe that starts from pairs of tokens has a decoder"
    phase_flops = recipe.pretrain.tokens * recipe.model.flops_per_token(vocab_size)
    return affordable_steps(recipe.pretrain.start_steps, phase_flops, vocab_size, recipe.model.hidden_size)
