"""RMSprop, as torch has it: v = smoothing * v + (1 - smoothing) * g^2 ; w -= rate * g / (sqrt(v) + epsilon).

Invariant: with `centred` the mean gradient's square is taken from v; with `momentum` the steps are added up.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from groundup.optim.groups import OneRule
from groundup.optim.transfer import Updates


class RMSpropConfig(OneRule):
    """Gradients over their root mean square (Hinton 2012); weight decay is L2."""

    kind: Literal["rmsprop"] = "rmsprop"
    updates: ClassVar[Updates] = "elementwise"
    decays_through_gradient: ClassVar[bool] = True
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Times the weight, added to the gradient of a hidden matrix."""
    smoothing: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the mean of squared gradients, per step."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Part of the step before that is kept."""
    centred: bool = False
    """Divide by the gradient's deviation instead of its root mean square."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's RMSprop."""
        return torch.optim.RMSprop(
            groups, alpha=self.smoothing, momentum=self.momentum, centered=self.centred, eps=self.epsilon, foreach=True
        )
