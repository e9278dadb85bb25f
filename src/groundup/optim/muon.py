"""Muon: hidden matrices move by their orthogonalised momentum (Jordan 2024); everything else by AdamW.

    gradient -> momentum -> orthogonalise by Newton-Schulz in bfloat16 -> update

An iteration costs 4 to 6 FLOPs per parameter and unit of the shorter side, whatever the batch: with small steps it
would be most of the work. Hence `block_rows`: blocks of rows (a head's queries, a slice of the feed-forward) are
orthogonalised by themselves, at a fraction of the cost, and blocks of one shape together: on a CPU by a kernel that
keeps a block in a core's cache, elsewhere by batched products.

Ranks that have the same matrices whole orthogonalise a part of them each and send each other the results.

Invariant: only two-dimensional hidden matrices are given to Muon; sharded ones (DTensor) give the update of whole ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from groundup.kernels import ops
from groundup.optim.adamw import AdamRates, adamw
from groundup.optim.gathering import gather_into, shared_out
from groundup.optim.groups import Named, groups

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration; the slope at zero is as steep as can be, the end within 0.7 .. 1.2 (Jordan 2024)."""


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
    block_rows: int = Field(default=0, ge=0)
    """Orthogonalise blocks of this many rows by themselves (0: whole matrices); cheaper, by much at small steps. With
    `model.scaling`, rows in the base model: in a wider one blocks are as much higher."""
    adjust_rate: Literal["original", "match_rms_adamw"] = "original"
    """How the rate depends on a block's shape: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), with
    which rates tuned for AdamW carry over (Liu et al. 2025, arXiv 2502.16982)."""
    adam_learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW for everything else, before its multipliers."""

    def parts(self, named: Sequence[Named]) -> list[torch.optim.Optimizer]:
        """Muon over the matrices and AdamW over the rest, each where there is any."""
        matrices = [entry for entry in named if entry.role == "matrix"]
        others = [entry for entry in named if entry.role != "matrix"]
        parts: list[torch.optim.Optimizer] = [muon(self, matrices)] if matrices else []
        if others:
            made = groups(self, others, learning_rate=self.adam_learning_rate, weight_decay=0.0, updates="elementwise")
            parts.append(adamw(self, made))
        return parts

    def transfer_obstacle(self) -> str | None:
        """None: singular values are set, those of blocks too, which grow with the width and so stay as many."""
        return None


class Muon(torch.optim.Optimizer):
    """Groups of matrices; the state of each matrix is its `momentum_buffer`."""

    def __init__(self, groups: list[dict[str, Any]], config: MuonConfig) -> None:
        self.config = config
        super().__init__(groups, {"lr": config.learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "the training step has made the gradients already"
        for group in self.param_groups:  # each brings its `block_rows`
            by_shape: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(block_shape(parameter.shape, group["block_rows"]), []).append(parameter)
            for shape, members in by_shape.items():
                self._update(members, shape, group["lr"], group["weight_decay"])

    def _update(
        self, parameters: list[Tensor], shape: tuple[int, int], learning_rate: float, weight_decay: float
    ) -> None:
        """Move matrices that consist of blocks of one shape."""
        counts = [parameter.numel() // (shape[0] * shape[1]) for parameter in parameters]
        wanted = torch.empty((sum(counts), *shape), dtype=parameters[0].dtype, device=_works_on(parameters[0]))
        sharded = []
        for parameter, part in zip(parameters, torch.split(wanted, counts)):
            whole = part.view(parameter.shape)
            direction = self._direction(parameter, out=whole)
            sharded += [(direction, whole)] if isinstance(direction, DTensor) else []
        gather_into(sharded)
        mesh = parameters[0].device_mesh if isinstance(parameters[0], DTensor) else None
        found = shared_out(lambda blocks: orthogonal(blocks, self.config.newton_schulz_steps), wanted, mesh)
        moved = torch.split(found.float(), counts)
        rate = learning_rate * rate_factor(shape, self.config.adjust_rate)
        for parameter, part in zip(parameters, moved):
            if weight_decay:
                parameter.mul_(1 - learning_rate * weight_decay)
            parameter.add_(_placed(part.reshape(parameter.shape), parameter), alpha=-rate)

    def _direction(self, parameter: Tensor, out: Tensor) -> Tensor:
        """Momentum with this step's gradient in it: `out`, or, where the parameter is sharded, a tensor like it."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None, "parameters without gradient were left out"
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - self.config.momentum)
        weight = self.config.momentum if self.config.nesterov else 1.0
        if isinstance(gradient, DTensor):
            return gradient.lerp(momentum, weight)
        return torch.lerp(gradient, momentum, weight, out=out)


def muon(config: MuonConfig, named: Sequence[Named]) -> Muon:
    """Muon over hidden matrices. Raises ValueError when one of them is no matrix."""
    unfit = next((entry.name for entry in named if entry.parameter.ndim != 2), None)
    if unfit is not None:
        raise ValueError(f"{unfit} is no matrix; Muon takes 2D parameters only")
    rates = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    by_rms = config.adjust_rate == "match_rms_adamw"
    made = groups(config, named, **rates, updates="orthogonal_by_rms" if by_rms else "orthogonal")
    wider = {entry.name: entry.growth[0] for entry in named}
    for group in made:  # of one growth each
        group["block_rows"] = math.ceil(config.block_rows * wider[group["names"][0]])
    return Muon(made, config)


def block_shape(shape: torch.Size, block_rows: int) -> tuple[int, int]:
    """Rows and columns of a matrix's blocks: the most rows up to `block_rows` that divide it evenly (0: all rows)."""
    rows, columns = shape
    limit = min(block_rows or rows, rows)
    return next(count for count in range(limit, 0, -1) if rows % count == 0), columns


def rate_factor(shape: tuple[int, int], rule: Literal["original", "match_rms_adamw"]) -> float:
    """What a block's learning rate is multiplied with."""
    rows, columns = shape
    return math.sqrt(max(1.0, rows / columns)) if rule == "original" else 0.2 * math.sqrt(max(rows, columns))


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """The orthogonal matrix nearest to each of float32 [count, rows, columns], roughly: singular values 0.7 .. 1.2.

    Newton-Schulz in bfloat16 (Jordan 2024), float32 returned.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT.contiguous(), steps).mT
    coefficients = [COEFFICIENTS] * steps
    if matrices.device.type == "cpu" and ops.can_orthogonalise(*matrices.shape[1:]):
        return ops.orthogonalise(matrices, torch.tensor(coefficients)).float()
    return _by_products(matrices, coefficients).float()


def _by_products(matrices: Tensor, coefficients: list[tuple[float, float, float]]) -> Tensor:
    x: Tensor = (matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)).bfloat16()
    for stay, linear, cubic in coefficients:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=linear, alpha=cubic), x, beta=stay)
    return x


def _placed(whole: Tensor, like: Tensor) -> Tensor:
    """The part of `whole`, known to every rank, that this rank holds of `like`."""
    if not isinstance(like, DTensor):
        return whole
    placed: Tensor = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return placed.to(like.device)  # back, where it is offloaded


def _works_on(parameter: Tensor) -> torch.device:
    """Where a matrix is orthogonalised: on the GPU that trains it, also where it is offloaded."""
    return torch.device(parameter.device_mesh.device_type) if isinstance(parameter, DTensor) else parameter.device
