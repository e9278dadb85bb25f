"""A meta model -> recomputed, compiled and sharded as the runtime asks; and sharded tensors <-> whole ones.

    meta -> recompute blocks -> compile blocks -> FSDP2 (a group per block, one for the rest) -> to_empty, initialise
    forward without a backward -> `gathered_for_reading` lets go of the weights that it gathered

Invariant: parameters keep their names and their float32 masters; gradients are averaged over the ranks (FSDP2's rule),
so a loss that is a sum over ranks is multiplied by the world size by whoever makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from groundup.parallel.compile import compile_units
from groundup.parallel.mesh import DATA_NAMES, PIPELINE, degree, part, sharding_mesh
from groundup.parallel.recompute import recompute_blocks


class Shardable(Protocol):
    """What a model says of itself so that it can be sharded from outside."""

    def blocks(self) -> Sequence[nn.Module]:
        """The repeated units."""

    def compile_units(self) -> Sequence[nn.Module]:
        """What is worth compiling."""

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Dtype of activations and matrix products."""


def apply(
    model: Shardable,
    *,
    mesh: DeviceMesh | None,
    compute_dtype: torch.dtype,
    gather_dtype: torch.dtype | None = None,
    recompute: bool = False,
    compile_blocks: bool = False,
    roots: Sequence[nn.Module] | None = None,
) -> None:
    """Prepare a meta model for training, in the one order that works. Without `mesh` nothing is sharded.

    `gather_dtype`: in which weights are gathered (None: the compute dtype). `roots`: what is called as a whole (None:
    the model itself).
    """
    model.set_compute_dtype(compute_dtype)
    if recompute:
        recompute_blocks(model.blocks())
    if compile_blocks:
        compile_units(model.compile_units())
    # Of a stage that one rank holds alone, nothing is to be gathered.
    if mesh is not None and (sharding_mesh(mesh).size() > 1 or degree(mesh, PIPELINE) == 1):
        fully_shard_blocks(model, sharding_mesh(mesh), gather_dtype or compute_dtype, roots)


def fully_shard_blocks(
    model: Shardable, mesh: DeviceMesh, gather_dtype: torch.dtype, roots: Sequence[nn.Module] | None = None
) -> None:
    """FSDP2: gather one block's weights at a time, reduce gradients in float32."""
    assert isinstance(model, nn.Module), "a model to shard is a torch module"
    # Inputs are not cast: rotary tables stay float32, the model itself casts what should be.
    policy = MixedPrecisionPolicy(param_dtype=gather_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks():
        fully_shard(block, mesh=mesh, mp_policy=policy)
    for root in [model] if roots is None else roots:
        fully_shard(root, mesh=mesh, mp_policy=policy)


def reduce_copies(model: nn.Module, now: bool) -> None:
    """Say before a backward whether the copies of a model add up their gradients behind it: once a step will do."""
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(now)


@contextmanager
def gathered_for_reading(model: nn.Module) -> Iterator[None]:
    """Run a model inside without gradients; afterwards its parameters are this rank's parts again.

    Every rank must run it on inputs of its own or the same. Without a backward FSDP keeps what it gathered last, and
    would go on with it when the weights have changed.
    """
    if not any(isinstance(module, FSDPModule) for module in model.modules()):
        with torch.inference_mode():
            yield
        return
    try:
        with torch.no_grad():  # tensors made in inference mode could not be used by later steps
            yield
    finally:
        give_back(model)


def give_back(model: nn.Module) -> None:
    """Let go of weights that were gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor (a collective: every rank must call it); others are given back as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; others are given back as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Mapping[str, Tensor], mesh: DeviceMesh | None) -> dict[str, Tensor]:
    """Tensors unsharded, on the CPU, by name; with stages, rank 0 gets those of all stages, one after the other.

    A collective: every rank must call it, with what it has itself.
    """
    line = part(mesh, PIPELINE)
    if line is None:
        return {name: full_tensor(tensor).cpu().contiguous() for name, tensor in tensors.items()}
    group, place, device = line.get_group(), line.get_local_rank(), line.device_type
    held: list[list[tuple[str, torch.Size, torch.dtype]]] = [[] for _ in range(line.size())]
    dist.all_gather_object(held, [(name, each.shape, each.dtype) for name, each in tensors.items()], group=group)
    # What several ranks have (a table that is tied) comes from the first of them.
    giver = {name: rank for rank in reversed(range(line.size())) for name, _, _ in held[rank]}
    of_rank_0 = dist.get_global_rank(group, 0) == 0
    found = {}
    for name, tensor in tensors.items():
        whole = full_tensor(tensor).contiguous()
        if place == 0:
            found[name] = whole.cpu()
        elif of_rank_0 and giver[name] == place:
            dist.send(whole.to(device), group=group, group_dst=0)
    for rank in range(1, line.size() if of_rank_0 and place == 0 else 1):
        for name, shape, dtype in held[rank]:
            if giver[name] == rank:
                whole = torch.empty(shape, dtype=dtype, device=device)
                dist.recv(whole, group=group, group_src=rank)
                found[name] = whole.cpu()
    return found


def total_norm(gradients: Mapping[str, Tensor], mesh: DeviceMesh | None, shared: Collection[str] = ()) -> Tensor:
    """Global norm of all ranks' gradients (a collective). `shared`: names at both ends of a line, counted once."""
    line = part(mesh, PIPELINE)
    counted = [
        each for name, each in gradients.items() if line is None or not line.get_local_rank() or name not in shared
    ]
    norm = full_tensor(torch.nn.utils.get_total_norm(counted, foreach=True))
    if line is None:
        return norm
    square = norm.double().square()  # in double precision no square is infinite
    dist.all_reduce(square, group=line.get_group())
    return square.sqrt().to(norm.dtype)


def averaged_over(mesh: DeviceMesh | None) -> int:
    """Ranks over which gradients are averaged."""
    return sharding_mesh(mesh).size() if mesh is not None else 1


def gathered_rows(tensor: Tensor, mesh: DeviceMesh | None) -> Tensor:
    """The rows [rows, ...] of all ranks with rows of their own, behind each other (a collective: all must call it)."""
    whole = tensor.clone()
    for name in reversed(DATA_NAMES):
        line = part(mesh, name)
        if line is not None and line.size() > 1:
            parts = [torch.empty_like(whole) for _ in range(line.size())]
            dist.all_gather(parts, whole.contiguous(), group=line.get_group())
            whole = torch.cat(parts)
    return whole


@torch.no_grad()
def copy_full(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, known to every rank, into a (possibly sharded) one; no communication."""
    if isinstance(target, DTensor):
        whole = distribute_tensor(whole.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(whole)
