"""Sharded matrices -> whole ones on every rank, those of one shape and layout in one message; and work on them shared.

    local parts [rows, columns] of n matrices --stacked--> one part [n, rows, columns] --all-gather--> n whole matrices

    n whole matrices, the same on all ranks --each rank works on some--> all-gather --> n results on every rank

Invariant: the numbers are those of `full_tensor` of each, and those of one rank that does all the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard


def gather_into(matrices: Sequence[tuple[DTensor, Tensor]]) -> None:
    """Write each sharded matrix whole to the tensor beside it (a collective: all ranks must call it alike)."""
    alike: dict[tuple[object, ...], list[tuple[DTensor, Tensor]]] = {}
    for sharded, whole in matrices:
        alike.setdefault((sharded.shape, sharded.device_mesh, sharded.placements), []).append((sharded, whole))
    for members in alike.values():
        first = members[0][0]
        parts = torch.stack([sharded.to_local() for sharded, _ in members])
        rows, columns = first.shape
        placements = [_behind_the_stack(placement) for placement in first.placements]
        stacked = DTensor.from_local(
            parts,
            first.device_mesh,
            placements,
            run_check=False,
            shape=torch.Size((len(members), rows, columns)),
            stride=(rows * columns, columns, 1),
        )
        # The last dimension was cut first, so it is put together last; torch warns where it is to do all at once.
        for dimension in range(len(placements) - 1):
            placements[dimension] = Replicate()
            stacked = stacked.redistribute(placements=placements)
        for (_, whole), found in zip(members, stacked.full_tensor().unbind()):
            whole.copy_(found)


def added_up(tensor: Tensor) -> Tensor:
    """A sum of which several ranks have parts each, on all of them (a collective then); others as they are."""
    if not isinstance(tensor, DTensor):
        return tensor
    # One dimension of the mesh after the other, as torch would do too, and warn of it on every rank.
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_partial():
            placements = [*tensor.placements]
            placements[dimension] = Replicate()
            tensor = tensor.redistribute(placements=placements)
    return tensor


def shared_out(work: Callable[[Tensor], Tensor], blocks: Tensor, mesh: DeviceMesh | None) -> Tensor:
    """`work(blocks)` [count, ...], numbers of bfloat16, of which each rank does a part; all have the same `blocks`.

    Shared along the mesh's longest dimension (a collective: all its ranks must call it alike); None: no other rank.
    """
    if mesh is None or max(mesh.shape) == 1:
        return work(blocks)
    dimension = mesh.shape.index(max(mesh.shape))
    ranks, rank = mesh.size(dimension), mesh.get_local_rank(dimension)
    each = -(-len(blocks) // ranks)
    own = blocks[rank * each : (rank + 1) * each]
    done = torch.zeros((each, *blocks.shape[1:]), dtype=torch.bfloat16, device=blocks.device)
    if len(own):
        done[: len(own)] = work(own)
    found = done.new_empty((ranks * each, *blocks.shape[1:]))
    # As bytes, since not every backend sends bfloat16.
    given, taken = (tensor.view(torch.uint8).view(-1) for tensor in (done, found))
    dist.all_gather_single(taken, given, group=mesh.get_group(dimension))
    return found[: len(blocks)]


def _behind_the_stack(placement: Placement) -> Placement:
    """A matrix's placement where it is one of several, along a new first dimension."""
    if isinstance(placement, _StridedShard):
        return _StridedShard(placement.dim + 1, split_factor=placement.split_factor)
    return Shard(placement.dim + 1) if isinstance(placement, Shard) else placement
