"""A sharded tensor -> which box of the whole one this rank holds, read off its placements; no communication.

    mesh (data 2, tensor 2), rows split by tensor, then each part by data: _StridedShard(0), Shard(0)
    rows 0 1 | 2 3 | 4 5 | 6 7   of ranks (0,0) (1,0) (0,1) (1,1)

Invariant: the box has the shape of the local tensor, else it is refused; so uneven parts and empty ones are right too.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from groundup.parallel.shard import local_tensor
from groundup.sharded import Box


def box_held(tensor: Tensor) -> Box:
    """The box of the whole tensor that this rank's part is; all of it where the tensor is not sharded.

    Raises ValueError for parts that are still to be added up, or that are no box.
    """
    if not isinstance(tensor, DTensor):
        return Box.whole(tensor.shape)
    offset, shape = [0] * tensor.ndim, list(tensor.shape)
    places = tensor.device_mesh.get_coordinate()
    assert places is not None, "a rank has tensors of its own meshes only"
    for mesh_dim, placement in _order_of_division(tensor):
        dim = placement.dim % tensor.ndim
        # As torch.chunk divides: all parts but the last ones have the same size.
        size = -(-shape[dim] // tensor.device_mesh.size(mesh_dim))
        first = min(shape[dim], size * places[mesh_dim])
        offset[dim], shape[dim] = offset[dim] + first, min(size, shape[dim] - first)
    if tuple(shape) != tuple(local_tensor(tensor).shape):
        found = list(local_tensor(tensor).shape)
        raise ValueError(f"a part of shape {found} where {tensor.placements} of {list(tensor.shape)} give {shape}")
    return Box(tuple(offset), tuple(shape))


def _order_of_division(tensor: DTensor) -> list[tuple[int, Shard | _StridedShard]]:
    """(dimension of the mesh, how it divides), in the order in which the tensor was divided.

    A strided shard is one of torch's for what was divided along inner dimensions of the mesh before (FSDP of what is
    tensor parallel), so those come first.
    """
    plain: list[tuple[int, Shard | _StridedShard]] = []
    strided: list[tuple[int, Shard | _StridedShard]] = []
    for mesh_dim, placement in enumerate(tensor.placements):
        if isinstance(placement, _StridedShard):
            strided.insert(0, (mesh_dim, placement))
        elif isinstance(placement, Shard):
            plain.append((mesh_dim, placement))
        elif not isinstance(placement, Replicate):
            raise ValueError(f"a tensor of shape {list(tensor.shape)} is placed as {placement}, which is no part")
    return [*plain, *strided]
