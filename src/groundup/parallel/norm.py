"""The global norm of gradients, however each of them is laid out over the ranks.

    gradient -> square of the norm of the local part -> summed by the mesh dimensions it is cut along -> all-reduced,
                                                        once for each dimension

Stages of a pipeline have other parameters each: their squares are added up. Invariant: a part that several ranks have
alike counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from groundup.parallel.mesh import PIPELINE, TENSOR, names_of, part


def total_norm(gradients: Mapping[str, Tensor], mesh: DeviceMesh | None, shared: Collection[str] = ()) -> Tensor:
    """The norm of all ranks' gradients by name together, the same on every rank (a collective: all must call it).

    `shared`: names of what both ends of a pipeline have.
    """
    line = part(mesh, PIPELINE)
    if line is None:
        return _norm(list(gradients.values()))
    first = line.get_local_rank() == 0
    norm = _norm([each for name, each in gradients.items() if first or name not in shared])
    square = norm.double().square()  # in double precision no square is infinite
    dist.all_reduce(square, group=line.get_group())
    return square.sqrt().to(norm.dtype)


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    sharded = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    if not any(TENSOR in names_of(gradient.device_mesh) for gradient in sharded):
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm
    members: dict[tuple[str, ...], list[Tensor]] = {}
    lines: dict[str, dist.ProcessGroup] = {}
    for gradient in sharded:
        mesh, names = gradient.device_mesh, names_of(gradient.device_mesh)
        cut = tuple(name for name, placement in zip(names, gradient.placements) if not placement.is_replicate())
        members.setdefault(cut, []).append(gradient.to_local())
        lines |= {name: mesh.get_group(name) for name in cut}
    members.setdefault((), []).extend(gradient for gradient in gradients if not isinstance(gradient, DTensor))
    ways = list(members)
    squares = torch.stack([_square(members[cut], sharded[0].to_local()) for cut in ways])
    # Every rank in the same order: gradients are met in the order of the model's parameters.
    for name, line in lines.items():
        mine = torch.tensor([name in cut for cut in ways], device=squares.device)
        summed = squares.clone()
        dist.all_reduce(summed, group=line)
        squares = torch.where(mine, summed, squares)
    return squares.sum().sqrt()


def _square(gradients: Sequence[Tensor], like: Tensor) -> Tensor:
    """The square of the norm of local parts, which may be empty."""
    filled = [gradient for gradient in gradients if gradient.numel()]
    if not filled:
        return torch.zeros((), dtype=torch.float32, device=like.device)
    return torch.nn.utils.get_total_norm(filled, foreach=True).float().square()
