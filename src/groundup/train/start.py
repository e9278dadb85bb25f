"""What a phase may start from beside random numbers: counted pairs of tokens, or a pretrained encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models import (
    Decoder,
    Labeller,
)
from groundup.models.bigrams import PairCounts, bigram_tables
from groundup.models.induction import InductionStart, reserved_columns, with_reserved
from groundup.parallel import shard
from groundup.tokens import Bigrams
from groundup.train.settings import TrainingConfig, dtype_of
from groundup.train.state import TrainState


def start_from_bigrams(
    state: TrainState, counted: Bigrams, steps: int, seed: int, training: TrainingConfig, *, induction: bool = False
) -> None:
    """Replace embedding and output matrix by those of the best bigram model of the counted pairs (models.bigrams).

    `induction`: and make two heads that find what followed a token before (models.induction).
    """
    model = state.model
    assert isinstance(model, Decoder), "a recipe that starts from pairs of tokens is checked to have a decoder"
    first, second, numbers = map(torch.from_numpy, (counted.first, counted.second, counted.counts))
    counts = PairCounts.of(first, second, numbers, model.vocab_size)
    config, dtype = model.config, dtype_of(training.precision)
    reserved = reserved_columns(config) if induction else 0
    embedding, head = bigram_tables(counts, config.hidden_size - reserved, steps, seed, dtype)
    parameters = dict(model.named_parameters())
    if induction:
        embedding, head = with_reserved(config, embedding, head)
        heads = InductionStart(config, embedding, head, counts.first, seed)
        for name, parameter in parameters.items():
            made = heads.start(name, model.start(name, parameter.shape, seed))
            if made is not None:
                shard.copy_full(parameter, made)
    for name, table in ((model.embedding_name, embedding * config.embedding_init_std), (model.head_name, head)):
        if name in parameters:  # else it is another stage's
            shard.copy_full(parameters[name], table)


def start_from_pretrained(model: Labeller, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy what a pretrained encoder has of the parameters of a model for a task; returns those that it has not.

    Raises ModelFileError when a shape differs.
    """
    fresh = []
    for name, parameter in model.named_parameters():
        found = weights.get(model.pretrained_name(name))
        if found is None:
            fresh.append(name)
        elif found.shape != parameter.shape:
            raise ModelFileError(f"{name}: weights have shape {list(found.shape)}, the model {list(parameter.shape)}")
        else:
            shard.copy_full(parameter, found)
    return fresh
