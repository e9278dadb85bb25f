r"""Sums in an order that ranks do not change: several of them give the bits of one.

    virtual shard    0   1   2   3 | 4   5   6   7      a micro-batch each, alone, on whichever rank it lies
                      \ /     \ /  |  \ /     \ /
                       +       +   |   +       +        within a rank: at most log2 of its shards are kept
                         \   /     |     \   /
                           +       |       +
                              \    |    /
                                   +                    across ranks: each adds its part of all, then all gather

Shards below the lowest pairs (an odd number of them: 3 of 12) are added one after the other. The tree follows from the
number of shards alone, and a power of two of ranks cuts it along its branches. Invariant: each addition has the same
two operands wherever it is made, so gradients and losses do not depend on the ranks, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from groundup.parallel.mesh import DATA_NAMES, part
from groundup.parallel.passes import Pass, Passes, one_after_another

BUCKET_ELEMENTS = 2**22
"""Gradients go to the other ranks about so many numbers at a time, which bounds the memory for it."""


class Tree:
    """Adds up lists of tensors, given one by one, as the picture above says."""

    def __init__(self, leaves: int) -> None:
        self._in_a_row = leaves // (leaves & -leaves)
        self._leaves, self._given = leaves, 0
        self._node: list[Tensor] = []
        self._waiting: dict[int, list[Tensor]] = {}

    def add(self, leaf: list[Tensor]) -> None:
        """One leaf more; its memory is the tree's from now on."""
        self._node = _added(self._node, leaf) if self._given % self._in_a_row else leaf
        self._given += 1
        if self._given % self._in_a_row:
            return
        level = 0
        while level in self._waiting:
            self._node = _added(self._waiting.pop(level), self._node)
            level += 1
        self._waiting[level] = self._node

    def total(self) -> list[Tensor]:
        """The sum, once all leaves are given."""
        assert self._given == self._leaves and len(self._waiting) == 1, f"{self._given} of {self._leaves} leaves"
        return self._node


def _added(left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    for one, other in zip(left, right, strict=True):
        one.add_(other)
    return left


def in_order(mesh: DeviceMesh | None) -> Passes:
    """A step's micro-batches as virtual shards, of which each rank has its own, and a whole copy of the parameters.

    The way to go leaves the sums over all ranks as gradients (a collective: every rank must call it).
    """

    def run(model: nn.Module, passes: Sequence[Pass]) -> list[Tensor]:
        parameters, tree, found = list(model.parameters()), Tree(len(passes)), []
        for each in passes:
            found += one_after_another(model, [each])
            parameters = [parameter for parameter in parameters if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            for parameter in parameters:
                parameter.grad = None
            tree.add(gradients)
        summed = tree.total()
        _sum_across_ranks(summed, 1 if mesh is None else mesh.size())
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient
        return found

    return run


def sum_of_rows(
    loss_sums: Tensor, sources: Sequence[Tensor], losses: Sequence[Tensor], mesh: DeviceMesh | None
) -> Tensor:
    """`loss_sums` with the losses of all ranks' rows added by their source, row after row of the global batch."""
    whole = [rows_of_all_ranks(torch.cat(list(each)), mesh) for each in (sources, losses)]
    return loss_sums.index_add(0, *whole)


def rows_of_all_ranks(rows: Tensor, mesh: DeviceMesh | None) -> Tensor:
    """The rows of all ranks with rows of their own, behind each other (a collective: all of them must call it)."""
    for name in reversed(DATA_NAMES):
        line = part(mesh, name)
        if line is not None and line.size() > 1:
            parts = [torch.empty_like(rows) for _ in range(line.size())]
            dist.all_gather(parts, rows.contiguous(), group=line.get_group())
            rows = torch.cat(parts)
    return rows


def _sum_across_ranks(tensors: Sequence[Tensor], ranks: int) -> None:
    """Replace each tensor by its sum over all ranks (a power of two), neighbours first."""
    if ranks == 1:
        return
    bucket: list[Tensor] = []
    for number, tensor in enumerate(tensors, start=1):
        bucket.append(tensor)
        if sum(each.numel() for each in bucket) >= BUCKET_ELEMENTS or number == len(tensors):
            _sum_bucket(bucket, ranks)
            bucket = []


def _sum_bucket(tensors: Sequence[Tensor], ranks: int) -> None:
    sizes = [tensor.numel() for tensor in tensors]
    padding = tensors[0].new_zeros(-sum(sizes) % ranks)
    whole = torch.cat([*(tensor.flatten() for tensor in tensors), padding])
    parts = torch.empty_like(whole)
    dist.all_to_all_single(parts, whole)
    dist.all_gather(list(whole.view(ranks, -1).unbind()), _in_pairs(parts.view(ranks, -1).unbind()))
    for tensor, summed in zip(tensors, torch.split(whole, [*sizes, len(padding)])):
        # Copied, not kept as parts of one array: where a tensor begins in memory may decide how it is added up later.
        tensor.copy_(summed.view(tensor.shape))


def _in_pairs(parts: Sequence[Tensor]) -> Tensor:
    while len(parts) > 1:
        parts = [left + right for left, right in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
