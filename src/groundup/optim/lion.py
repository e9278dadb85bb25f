"""Lion: every weight moves by the same amount, in the direction of an interpolated gradient (Chen et al. 2023).

    w -= rate * (sign(beta1 * m + (1 - beta1) * gradient) + weight_decay * w) ; m = beta2 * m + (1 - beta2) * gradient

Own code, ten lines: torch has no Lion. Invariant: the numbers are those of the package lion-pytorch to the bit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from groundup.optim.groups import OneRule
from groundup.optim.transfer import Updates


class LionConfig(OneRule):
    """Sign of the momentum (arXiv 2302.06675); one number of state a weight, rates a third to a tenth of AdamW's."""

    kind: Literal["lion"] = "lion"
    updates: ClassVar[Updates] = "elementwise"
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=1.0, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate; 3 to 10 times AdamW's."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Share of the momentum in the direction of a step."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the momentum, per step."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Lion over all groups."""
        return Lion(groups, self.beta1, self.beta2)


class Lion(torch.optim.Optimizer):
    """The state of each parameter is its momentum, `exp_avg`."""

    def __init__(self, groups: list[dict[str, Any]], beta1: float, beta2: float) -> None:
        super().__init__(groups, {"lr": 1.0, "weight_decay": 0.0, "betas": (beta1, beta2)})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "the training step has made the gradients already"
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "exp_avg" not in state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                momentum = state["exp_avg"]
                direction = momentum.mul(beta1).add_(parameter.grad, alpha=1 - beta1).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
                momentum.mul_(beta2).add_(parameter.grad, alpha=1 - beta2)
