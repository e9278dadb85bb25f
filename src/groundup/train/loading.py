"""Whole weights -> the parameters of a model, of which this rank may hold parts only."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models import (
    Network,
)
from groundup.parallel import shard
from groundup.train.stored import ReadTensors, StoredTensor


def load_weights(model: Network, weights: Mapping[str, Tensor]) -> None:
    """Copy full tensors into the (possibly sharded) parameters. Raises ModelFileError naming what does not fit."""
    load_tensors(dict(model.named_parameters()), weights, model.elsewhere)


def load_tensors(
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor | StoredTensor],
    elsewhere: Collection[str] = (),
) -> None:
    """As `load_weights`, for tensors by name; of those that lie in files only what this rank holds is read.

    Those named by `elsewhere` are for other ranks.
    """
    if isinstance(weights, ReadTensors):
        weights = weights.stored
    missing = sorted(parameters.keys() - weights.keys())
    extra = sorted(weights.keys() - parameters.keys() - set(elsewhere))
    if missing or extra:
        raise ModelFileError(f"weights do not fit the model: missing {missing[:3]}, not known {extra[:3]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = weights[name]
            if parameter.shape != weight.shape:
                raise ModelFileError(
                    f"{name}: weights have shape {list(weight.shape)}, the model {list(parameter.shape)}"
                )
            if isinstance(weight, StoredTensor):
                weight.fill(parameter)
            else:
                shard.copy_full(parameter, weight)
