"""The one training step: micro-batches -> loss, gradients, update. Every phase, trial and simulation goes through it.

    loss = sum over objectives o of weight_o * (sum of losses of o's targets) / (valid targets of o in the global batch)

Targets are counted over all micro-batches and all ranks before the first backward, so that accumulation, packing and
ranks never change the loss. Invariant: no host synchronisation and no data-dependent shape, so the step runs under fake
tensors; what the host wants to know it reads from `StepResult` afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from groundup.kernels import ops
from groundup.models import RowContext, RowPart
from groundup.models.noise import row_keys
from groundup.parallel import shard
from groundup.parallel.mesh import sum_over_rows
from groundup.parallel.norm import total_norm
from groundup.parallel.ordered import sum_of_rows
from groundup.parallel.passes import Pass
from groundup.tokens import IGNORE, Batch
from groundup.train.state import TrainState


@dataclass(frozen=True)
class Objectives:
    """Which mixture source belongs to which objective, and each objective's weight (lambda for instruction)."""

    sources: tuple[str, ...]
    objective_of_source: tuple[int, ...]
    names: tuple[str, ...]
    weights: tuple[float, ...]
    heads: tuple[str, ...] = ("",)
    """Names of the model's losses, of which the first needs none."""
    head_weights: tuple[float, ...] = ()
    """What each of them counts in the objective; empty: all alike."""
    weights_at: Callable[[int], tuple[float, ...]] | None = None
    """Weights at a step (from 0), where they change with it; None: `weights` all along."""
    weight_names: tuple[str, ...] = ()
    """What the log calls each weight; empty: they are not logged."""

    @property
    def loss_names(self) -> list[str]:
        """Names of the losses of each source, head by head: `text`, `text_next_sentence`."""
        return [f"{source}_{head}" if head else source for source in self.sources for head in self.heads]

    def at(self, step: int) -> Objectives:
        """As they are at `step`, with the weights that hold there."""
        return self if self.weights_at is None else replace(self, weights=self.weights_at(step), weights_at=None)

    def named_weights(self) -> dict[str, float]:
        """The weights that the log shows, by name."""
        return {name: weight for name, weight in zip(self.weight_names, self.weights) if name}


@dataclass(frozen=True)
class StepResult:
    """Device tensors; reading them is the caller's synchronisation."""

    loss: Float[Tensor, ""]
    source_losses: Float[Tensor, " losses"]
    """Mean loss per valid target, as `Objectives.loss_names` names them; NaN where there was none."""
    grad_norm: Float[Tensor, ""]
    targets: Int64[Tensor, ""]
    updated: Bool[Tensor, ""]
    """False where loss or gradients were refused and the update was made with gradients of zero."""


def train_step(
    state: TrainState,
    micro_batches: Sequence[Batch],
    objectives: Objectives,
    *,
    learning_rate_factor: float,
    max_grad_norm: float,
    loss_limit: float = math.inf,
) -> StepResult:
    """One optimizer update from this rank's micro-batches (already on the device).

    A step whose loss is not below `loss_limit` (NaN never is), or whose gradients are not finite, updates with zero
    gradients instead and says so by `updated`.
    """
    parts = [RowPart.of(state.model.line, batch.segments) for batch in micro_batches]
    micro_batches = [b if part is None else b.columns(part.columns) for b, part in zip(micro_batches, parts)]
    counts = count_targets(micro_batches, len(objectives.sources), state)
    row_weights = _row_weights(counts, objectives)
    loss_sums = torch.zeros(counts.shape, dtype=torch.float32, device=state.device)
    # FSDP averages gradients over the ranks, the loss is a sum over them.
    copies = 1 if state.exact else shard.averaged_over(state.mesh)
    passes = [
        Pass(batch.inputs(), batch.targets, row_weights[batch.sources] * copies, replace(context, part=part))
        for batch, context, part in zip(micro_batches, row_contexts(state, micro_batches), parts, strict=True)
    ]
    row_sums, sources = state.passes(state.model, passes), [batch.sources for batch in micro_batches]
    if state.exact:
        loss_sums = sum_of_rows(loss_sums, sources, row_sums, state.mesh)
    else:
        for of_rows, sums in zip(sources, row_sums, strict=True):
            loss_sums = loss_sums.index_add(0, of_rows, sums)
        sum_over_rows(loss_sums, state.mesh)
    loss = (loss_sums * row_weights).sum()
    grad_norm, updated = clip_gradients(state, max_grad_norm, loss < loss_limit)
    state.updating = True
    state.optimizer.set_rate_factor(learning_rate_factor, state.step)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    if state.average is not None:
        state.average.update(state.step)
    state.updating = False
    return StepResult(
        loss=loss,
        source_losses=(loss_sums / counts).flatten(),
        grad_norm=grad_norm,
        targets=counts.sum(),
        updated=updated,
    )


def row_contexts(state: TrainState, micro_batches: Sequence[Batch]) -> list[RowContext]:
    """What each micro-batch's rows have beyond their tokens: keys for dropout by their number in the global batch, and
    the part of the model's memory that is theirs.
    """
    counts = [len(batch.tokens) for batch in micro_batches]
    ends = list(accumulate(counts))
    first = state.data_rank * ends[-1]
    numbers = torch.arange(first, first + ends[-1], device=state.device)
    keys = row_keys(state.seed, state.step, numbers)
    return [
        RowContext(
            keys[end - count : end],
            {name: kept[end - count : end] for name, kept in state.memory.items()},
            batch.continues,
        )
        for batch, count, end in zip(micro_batches, counts, ends)
    ]


def count_targets(micro_batches: Sequence[Batch], num_sources: int, state: TrainState) -> Int64[Tensor, "*sums"]:
    """Valid targets of each source (and head, where there are several) over all micro-batches and all ranks."""
    heads = micro_batches[0].targets.shape[1:-1]
    counts = torch.zeros((num_sources, *heads), dtype=torch.int64, device=state.device)
    for batch in micro_batches:
        counts = counts.index_add(0, batch.sources, (batch.targets != IGNORE).sum(dim=-1))
    sum_over_rows(counts, state.mesh)
    return counts


def _row_weights(counts: Int64[Tensor, "*sums"], objectives: Objectives) -> Float[Tensor, "*sums"]:
    """What one target's loss of each source counts in the loss: its objective's weight over the objective's targets.

    Several heads are several losses of one objective, each a mean over its own targets, times its own weight.
    """
    membership = torch.tensor(objectives.objective_of_source, device=counts.device)
    weights = torch.tensor(objectives.weights, dtype=torch.float32, device=counts.device)
    heads = counts.shape[1:]
    totals = torch.zeros((len(objectives.names), *heads), dtype=torch.int64, device=counts.device)
    totals = totals.index_add(0, membership, counts)
    shares = weights.view(-1, *(1 for _ in heads)) / totals.clamp(min=1)
    if objectives.head_weights:
        shares = shares * torch.tensor(objectives.head_weights, dtype=torch.float32, device=counts.device)
    return shares[membership]


def clip_gradients(
    state: TrainState, max_grad_norm: float, acceptable: Bool[Tensor, ""]
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    """Scale all gradients to a global norm of at most `max_grad_norm`; returns the norm, and whether they are used.

    They are zeroed when the norm is not finite, or the loss not `acceptable`.
    """
    named = {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    gradients = list(named.values())
    norm = total_norm(named, state.mesh, state.model.shared).to(acceptable.device)
    used = torch.isfinite(norm) & acceptable
    scale = torch.where(used, (max_grad_norm / (norm + 1e-6)).clamp(max=1.0), torch.zeros_like(norm))
    scale = scale.to(gradients[0].device)  # which is another one than the loss's where gradients are offloaded
    for gradient in map(shard.local_tensor, gradients):
        if state.uses_kernels:
            ops.scale_finite_(gradient, scale)
        else:
            # A non-finite gradient times zero stays NaN, so it is replaced first; finite ones pass unchanged.
            gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).mul_(scale)
    return norm, used
