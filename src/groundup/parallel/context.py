"""Context parallel: the line of ranks that share every row, and what they say to each other.

    shard.apply -> model.set_line(ContextLine)
    step, validation: RowPart.of(model.line, segments) -> this rank's positions of the rows
    attention: gather (all keys and values at once) or pass_on (from rank to rank, while it computes with those it has)

Parameters know nothing of it: FSDP splits them and adds up their gradients over data and context ranks together
(`mesh.sharding_mesh`). Invariant: gradients are added up in float32, whatever they were made in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh

from groundup.parallel.mesh import CONTEXT, ContextAttention, part


class ContextLine:
    """The ranks that have the same rows, each some of their positions."""

    def __init__(self, mesh: DeviceMesh, way: ContextAttention) -> None:
        """`mesh`: the line alone."""
        self.rank, self.size, self.way = mesh.get_local_rank(), mesh.size(), way
        self._group = mesh.get_group()

    def gather(self, tensor: Tensor) -> Tensor:
        """[...] of every rank -> [size, ...]; gradients of all ranks are added up on the way back."""
        gathered: Tensor = _Gather.apply(tensor, self._group, self.size)  # type: ignore[no-untyped-call]
        return gathered

    def pass_on(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Begin to send `tensor` to the next rank; the call of what is returned waits for that of the rank before."""
        sent = tensor.contiguous().view(-1)
        received = torch.empty_like(sent)
        # All to all with one receiver: unlike single sends it cannot lock up, and every backend has it.
        to, of = [0] * self.size, [0] * self.size
        to[(self.rank + 1) % self.size] = of[(self.rank - 1) % self.size] = sent.numel()
        work = dist.all_to_all_single(received, sent, of, to, group=self._group, async_op=True)

        def wait() -> Tensor:
            work.wait()
            return received.view(tensor.shape)

        return wait


class _Gather(torch.autograd.Function):
    """All-gather, whose backward is a reduce-scatter."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup, size: int) -> Tensor:
        ctx.group, ctx.shape, ctx.dtype = group, tensor.shape, tensor.dtype
        gathered = tensor.new_empty((size, *tensor.shape))
        dist.all_gather_single(gathered.view(-1), tensor.contiguous().view(-1), group=group)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        summed = torch.empty(ctx.shape, dtype=torch.float32, device=gradient.device)
        dist.reduce_scatter_single(summed.view(-1), gradient.float().contiguous().view(-1), group=ctx.group)
        return summed.to(ctx.dtype), None, None


def context_line(mesh: DeviceMesh | None, way: ContextAttention) -> ContextLine | None:
    """This rank's line; None where no rows are split."""
    line = part(mesh, CONTEXT)
    return None if line is None else ContextLine(line, way)
