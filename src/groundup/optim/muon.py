"""Muon: hidden matrices move by their orthogonalised momentum (Jordan 2024); everything else by AdamW.

    gradient -> momentum -> orthogonalise by Newton-Schulz in bfloat16 -> update        (torch.optim.Muon)

An iteration costs 4 to 6 FLOPs per parameter and unit of the shorter side: at width 320 and 8,192 tokens a step, five
of them are an eighth of the step, at the machine's full speed of matrix products already. Stacking the matrices of one
shape into batched products was measured and left: 391 against 356 ms on one core, 653 against 660 on two busy ones.
Invariant: only two-dimensional hidden matrices are given to Muon; sharded ones (DTensor) give the update of whole ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from groundup.optim.adamw import AdamRates


class MuonConfig(AdamRates):
    """Muon for hidden matrices, AdamW for embeddings, head and vectors."""

    kind: Literal["muon"] = "muon"
    learning_rate: float = Field(default=0.02, gt=0)
    """Peak learning rate of the hidden matrices (Muon)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Part of a hidden matrix that decays per step, times its learning rate."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the mean of gradients, per step."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    newton_schulz_steps: int = Field(default=5, ge=1, le=12)
    """Iterations of the orthogonalisation; fewer are cheaper and rougher."""
    adjust_rate: Literal["original", "match_rms_adamw"] = "original"
    """How the rate depends on a matrix's shape: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), with
    which rates tuned for AdamW carry over (Liu et al. 2025, arXiv 2502.16982)."""
    adam_learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW for everything else, before its multipliers."""


def muon(config: MuonConfig, named: Iterable[tuple[str, Tensor]]) -> torch.optim.Muon:
    """torch's Muon with one group of all hidden matrices."""
    members = list(named)
    group = {
        "params": [parameter for _, parameter in members],
        "names": [name for name, _ in members],
        "role": "matrix",
        "base_learning_rate": config.learning_rate,
    }
    return torch.optim.Muon(
        [group],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.nesterov,
        ns_steps=config.newton_schulz_steps,
        adjust_lr_fn=config.adjust_rate,
    )
