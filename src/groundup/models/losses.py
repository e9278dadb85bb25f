"""Losses of single predictions: scores and targets -> one float32 number each, 0 where nothing is predicted.

    cross-entropy   log sum exp(s) - (1 - e) s[target] - e mean(s) + z (log sum exp(s))^2       e: label smoothing
    squared error   (value - target)^2

They are summed by rows in the heads, divided by the number of valid targets in the training step, and weighted and
added up by objective there; so several losses in one run are several objectives. Invariant: what a loss is depends on
its configuration only, never on batch, micro-batch or rank.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from groundup.config import Config

IGNORE = -100
"""Target of a position at which nothing is predicted."""


class LossConfig(Config):
    """What is added to cross-entropy while training; evaluation always measures plain cross-entropy."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability that is taken from the right token and shared by all (Szegedy et al. 2016, arXiv 1512.00567)."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared logarithm of the softmax's sum, which keeps scores small (1e-4 in PaLM, 2204.02311)."""


class WeightedLossConfig(LossConfig):
    """As that, with weights of classes: those of a task, worked out from its labels. No recipe names it."""

    class_weights: tuple[float, ...]
    """What a target's loss is multiplied by, by number of its class; their mean over the targets should be 1."""


def cross_entropy(
    scores: Float[Tensor, "count classes"],
    targets: Int[Tensor, " count"],
    loss: LossConfig | None = None,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, " count"]:
    """Cross-entropy in nats and float32; 0 where the target is IGNORE.

    `class_weights` multiply the parts of the loss by their class, as in torch; z-loss has no class.
    """
    scores = scores.float()
    return loss_from_total(scores, torch.logsumexp(scores, dim=-1), targets, loss or LossConfig(), class_weights)


def loss_from_total(
    scores: Float[Tensor, "count classes"],
    log_total: Float[Tensor, " count"],
    targets: Int[Tensor, " count"],
    loss: LossConfig,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, " count"]:
    """As `cross_entropy`, of float32 scores whose logsumexp is known."""
    safe = targets.clamp(min=0)[:, None]
    if class_weights is None:
        own = log_total - scores.gather(1, safe).squeeze(1)
        even = log_total - scores.mean(1) if loss.label_smoothing else own
    else:
        nats = (log_total[:, None] - scores) * class_weights.float()
        own, even = nats.gather(1, safe).squeeze(1), nats.mean(1)
    smoothed = own if loss.label_smoothing == 0 else torch.lerp(own, even, loss.label_smoothing)
    if loss.z_loss:
        smoothed = smoothed + loss.z_loss * log_total.square()
    return torch.where(targets != IGNORE, smoothed, 0.0)
