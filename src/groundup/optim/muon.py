"""Muon: hidden matrices move by their orthogonalised momentum (Jordan 2024); everything else by AdamW.

    gradient -> momentum -> orthogonalise by Newton-Schulz -> update                  each matrix of torch.optim.Muon
    matrices of one shape stacked -> one batched product per iteration -> updates     GroupedMuon: the same, faster

Invariant: GroupedMuon's update is torch.optim.Muon's up to bfloat16 rounding, whatever the number of ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim._muon import _adjust_lr

from groundup.optim.adamw import AdamRates

STACK_ELEMENTS = 2**24
"""At most this many numbers are orthogonalised in one batch; a larger matrix goes alone."""


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


class GroupedMuon(torch.optim.Muon):
    """torch.optim.Muon with matrices of one shape (or its transpose) orthogonalised together by batched products.

    Sharded parameters (DTensor) are orthogonalised whole on every rank, then each rank updates its shard.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group(group, parameters, gradients, momenta)
        if not parameters:
            return
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for index, orthogonal in _orthogonalise_all(
            list(updates), group["ns_coefficients"], group["ns_steps"], group["eps"]
        ):
            parameter = parameters[index]
            rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameter.shape)
            parameter.add_(_like(orthogonal, parameter), alpha=-rate)


def _orthogonalise_all(
    updates: list[Tensor], coefficients: tuple[float, float, float], steps: int, epsilon: float
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, orthogonalised update), shape by shape, a bounded stack at a time."""
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        by_shape[min(update.shape), max(update.shape)].append(index)
    for (short, long), indices in by_shape.items():
        size = max(1, STACK_ELEMENTS // (short * long))
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            stack = torch.stack([_wide(updates[index]) for index in part])
            for index, orthogonal in zip(part, newton_schulz(stack, coefficients, steps, epsilon)):
                tall = updates[index].shape[0] > updates[index].shape[1]
                yield index, orthogonal.T if tall else orthogonal


def newton_schulz(stack: Tensor, coefficients: tuple[float, float, float], steps: int, epsilon: float = 1e-7) -> Tensor:
    """[n, rows, columns], rows <= columns, bfloat16 -> each matrix with its singular values brought near 1.

    The quintic iteration of https://kellerjordan.github.io/posts/muon, as in torch.optim.Muon.
    """
    a, b, c = coefficients
    norm = torch.linalg.vector_norm(stack, dim=(1, 2), keepdim=True)
    stack = stack / norm.clamp(min=epsilon)
    for _ in range(steps):
        gram = stack @ stack.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        stack = torch.baddbmm(stack, polynomial, stack, beta=a)
    return stack


def _wide(update: Tensor) -> Tensor:
    """The whole matrix in bfloat16, lying so that it has at least as many columns as rows."""
    whole = (update.full_tensor() if isinstance(update, DTensor) else update).bfloat16()
    return whole.T if whole.shape[0] > whole.shape[1] else whole


def _like(whole: Tensor, parameter: Tensor) -> Tensor:
    """`whole`, or this rank's shard of it where the parameter is sharded."""
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(
        whole.to(parameter.dtype).contiguous(), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def muon(config: MuonConfig, named: Iterable[tuple[str, Tensor]]) -> GroupedMuon:
    """One group of all hidden matrices."""
    members = list(named)
    group = {
        "params": [parameter for _, parameter in members],
        "names": [name for name, _ in members],
        "role": "matrix",
        "base_learning_rate": config.learning_rate,
    }
    return GroupedMuon(
        [group],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.nesterov,
        ns_steps=config.newton_schulz_steps,
        adjust_lr_fn=config.adjust_rate,
    )
