"""Adafactor: second moments of a matrix kept as one number a row and one a column (Shazeer & Stern 2018).

    v ~ row * column / mean(row)              vectors keep all of v
    u = gradient / sqrt(v), scaled down to a root mean square of `clip` at most
    w -= max(epsilon, rms(w)) * min(rate, 1 / sqrt(step)) * u

torch's own Adafactor reads numbers back to the host in every step, which a simulated run (fake tensors) cannot do and a
GPU waits for; this one does not. Invariant: the numbers are those of torch.optim.Adafactor, to rounding.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed.tensor import DTensor

from groundup.optim.gathering import added_up
from groundup.optim.groups import OneRule
from groundup.optim.transfer import Updates


class AdafactorConfig(OneRule):
    """Second moments by rows and columns (arXiv 1804.04235); steps are relative to the size of each parameter."""

    kind: Literal["adafactor"] = "adafactor"
    updates: ClassVar[Updates] = "relative"
    learning_rate: float = Field(default=0.02, gt=0)
    """Peak relative rate of the hidden matrices; 1 / sqrt(step) where that is less."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""
    decay_exponent: float = Field(default=0.8, gt=0, le=1)
    """The second moments take in the gradient with weight step^-exponent."""
    epsilon: float = Field(default=1e-3, gt=0)
    """Steps are relative to the parameter's root mean square, or to this where it is more."""
    clip: float = Field(default=1.0, ge=1)
    """Largest root mean square of an update before it is scaled by the rate."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Adafactor over all groups."""
        return Adafactor(groups, self)


class Adafactor(torch.optim.Optimizer):
    """The state of each parameter: `step`, and `row_var` with `col_var`, or `variance` for vectors."""

    def __init__(self, groups: list[dict[str, Any]], config: AdafactorConfig) -> None:
        self.config = config
        super().__init__(groups, {"lr": 1.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "the training step has made the gradients already"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, gradient: Tensor, learning_rate: float, weight_decay: float) -> None:
        state, tiny = self.state[parameter], torch.finfo(parameter.dtype).eps
        if not state:
            state.update(_start(gradient))
        state["step"] += 1
        new = state["step"] ** -self.config.decay_exponent
        rate = torch.clamp(state["step"] ** -0.5, max=learning_rate)
        size = _rms(parameter).clamp(min=self.config.epsilon) * rate
        if weight_decay:
            parameter.mul_(1 - learning_rate * weight_decay)
        if gradient.ndim > 1:
            row, column = state["row_var"], state["col_var"]
            row.lerp_(_mean(gradient.square(), -1), new)
            column.lerp_(_mean(gradient.square(), -2), new)
            variance = row @ added_up(column) / added_up(_mean(row, -2)).clamp(min=tiny)
        else:
            variance = state["variance"].lerp_(gradient.square(), new)
        update = gradient * variance.clamp(min=tiny * tiny).rsqrt()
        update = update * (size / (_rms(update) / self.config.clip).clamp(min=1.0))
        if isinstance(parameter, DTensor) and isinstance(update, DTensor):
            # One row over several ranks (the head of a number): the product above lies whole on each of them.
            update = update.redistribute(placements=parameter.placements)
        parameter.sub_(update)


def _start(gradient: Tensor) -> dict[str, Tensor]:
    step = torch.zeros((), dtype=torch.float32, device=gradient.device)
    if gradient.ndim == 1:
        return {"step": step, "variance": torch.zeros_like(gradient)}
    return {
        "step": step,
        "row_var": torch.zeros_like(_mean(gradient, -1)),
        "col_var": torch.zeros_like(_mean(gradient, -2)),
    }


def _mean(tensor: Tensor, dim: int) -> Tensor:
    # A sum over the count, not `mean`: of a sharded tensor the shards may be of unequal length.
    return tensor.sum(dim, keepdim=True) / tensor.shape[dim]


def _rms(tensor: Tensor) -> Tensor:
    return (added_up(tensor.square().sum()) / tensor.numel()).sqrt()
