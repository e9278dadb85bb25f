"""AdamW: which parameter gets which learning rate and weight decay.

    matrix      learning_rate                           decayed
    embedding   learning_rate * embedding_multiplier    (a tied table counts as embedding)
    head        learning_rate * head_multiplier
    vector      learning_rate * vector_multiplier       (gains of norms)

Invariant: weight decay falls on hidden matrices only; every group carries its role and its `base_learning_rate`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from groundup.config import Config

Role = Literal["matrix", "embedding", "head", "vector"]
ROLES: tuple[Role, ...] = ("matrix", "embedding", "head", "vector")


class AdamRates(Config):
    """Constants of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) and the rates of the parts of a model."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of gradients, per step."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the mean of squared gradients, per step."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""
    embedding_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of the embedding table over AdamW's rate."""
    head_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of an untied output matrix over AdamW's rate."""
    vector_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of the gains of norms over AdamW's rate."""


class AdamWConfig(AdamRates):
    """AdamW for every parameter."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""


def role_of(name: str, parameter: Tensor, matrix_names: Collection[str], head_name: str) -> Role:
    """The role of a parameter: by the names the model gives, else by its number of dimensions."""
    if name in matrix_names:
        return "matrix"
    if parameter.ndim < 2:
        return "vector"
    return "head" if name == head_name else "embedding"


def adamw(
    rates: AdamRates,
    named: Iterable[tuple[str, Tensor, Role]],
    *,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """torch's fused AdamW with one group for each role that occurs."""
    by_role: dict[Role, list[tuple[str, Tensor]]] = {role: [] for role in ROLES}
    for name, parameter, role in named:
        by_role[role].append((name, parameter))
    factors = {
        "matrix": 1.0,
        "embedding": rates.embedding_multiplier,
        "head": rates.head_multiplier,
        "vector": rates.vector_multiplier,
    }
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "role": role,
            "lr": learning_rate * factors[role],
            "base_learning_rate": learning_rate * factors[role],
            "weight_decay": weight_decay if role == "matrix" else 0.0,
        }
        for role, members in by_role.items()
        if members
    ]
    return torch.optim.AdamW(groups, betas=(rates.beta1, rates.beta2), eps=rates.epsilon, fused=True)
