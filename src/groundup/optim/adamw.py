"""Adam and AdamW, as torch has them, fused.

    adamw   w -= rate * (m / (sqrt(v) + epsilon) + weight_decay * w)           decay beside the gradient
    adam    the same with weight_decay * w added to the gradient beforehand    decay through the moments

Invariant: moments are float32, as the parameters are.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from groundup.optim.groups import OneRule, Rates
from groundup.optim.transfer import Updates


class AdamRates(Rates):
    """Constants of Adam (Kingma & Ba 2015, arXiv 1412.6980) and the rates of the parts of a model."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of gradients, per step."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the mean of squared gradients, per step."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""


class AdamWConfig(AdamRates, OneRule):
    """AdamW for every parameter (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"
    updates: ClassVar[Updates] = "elementwise"
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's fused AdamW."""
        return adamw(self, groups)


class AdamConfig(AdamRates, OneRule):
    """Adam for every parameter; weight decay is a part of the gradient (L2)."""

    kind: Literal["adam"] = "adam"
    updates: ClassVar[Updates] = "elementwise"
    decays_through_gradient: ClassVar[bool] = True
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Times the weight, added to the gradient of a hidden matrix."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's fused Adam."""
        return torch.optim.Adam(groups, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)


def adamw(rates: AdamRates, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """torch's fused AdamW over `groups`."""
    return torch.optim.AdamW(groups, betas=(rates.beta1, rates.beta2), eps=rates.epsilon, fused=True)
