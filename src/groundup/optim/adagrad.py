"""Adagrad, as torch has it: s += gradient^2 ; w -= rate * gradient / (sqrt(s) + epsilon)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from groundup.optim.groups import OneRule
from groundup.optim.transfer import Updates


class AdagradConfig(OneRule):
    """Rates that fall with the sum of squared gradients (Duchi et al. 2011); weight decay is L2."""

    kind: Literal["adagrad"] = "adagrad"
    updates: ClassVar[Updates] = "elementwise"
    decays_through_gradient: ClassVar[bool] = True
    learning_rate: float = Field(default=0.01, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Times the weight, added to the gradient of a hidden matrix."""
    initial_sum: float = Field(default=0.0, ge=0)
    """What the sum of squares starts from; above 0 the first steps are smaller."""
    epsilon: float = Field(default=1e-10, gt=0)
    """Added to the root of the sum."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's Adagrad."""
        return torch.optim.Adagrad(groups, initial_accumulator_value=self.initial_sum, eps=self.epsilon, foreach=True)
