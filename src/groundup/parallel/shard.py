"""A meta model -> recomputed, compiled, sharded and offloaded as the runtime asks; and sharded tensors <-> whole ones.

    meta -> share layers (tensor) -> recompute blocks -> compile blocks -> FSDP2 (a group per block, one for the rest)
         -> to_empty, initialise
    forward without a backward -> `gathered_for_reading` lets go of the weights that it gathered

Invariant: parameters keep their names and their float32 masters; gradients are averaged over the ranks (FSDP2's rule),
so a loss that is a sum over ranks is multiplied by the world size by whoever makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from groundup.parallel import tensor
from groundup.parallel.compile import compile_units
from groundup.parallel.context import ContextLine, context_line
from groundup.parallel.mesh import PIPELINE, TENSOR, ContextAttention, degree, part, sharding_mesh
from groundup.parallel.recompute import Kind as RecomputeKind
from groundup.parallel.recompute import Recompute, limit_kept, recompute_blocks


class Shardable(tensor.Splittable, Protocol):
    """What a model says of itself so that it can be sharded from outside."""

    def blocks(self) -> Sequence[nn.Module]:
        """The repeated units."""

    def compile_units(self) -> Sequence[nn.Module]:
        """What is worth compiling."""

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Dtype of activations and matrix products."""

    def set_line(self, line: ContextLine | None) -> None:
        """The ranks that share its rows, each with a part of their positions."""


def apply(
    model: Shardable,
    *,
    mesh: DeviceMesh | None,
    compute_dtype: torch.dtype,
    gather_dtype: torch.dtype | None = None,
    recompute: bool | RecomputeKind | Recompute = False,
    compile_blocks: bool = False,
    offload: bool = False,
    context_attention: ContextAttention = "auto",
    roots: Sequence[nn.Module] | None = None,
) -> None:
    """Prepare a meta model for training, in the one order that works. Without `mesh` nothing is sharded.

    `gather_dtype`: in which weights are gathered (None: the compute dtype). `offload`: parameters, gradients and what
    the optimizer keeps live in the CPU's memory; the model must then be materialised there (`home_of`).
    `context_attention`: how ranks get keys and values of each other where rows are split. `roots`: what is called as a
    whole (None: the model itself).
    Raises RecipeError for a recomputation that blocks of this model cannot do.
    """
    model.set_compute_dtype(compute_dtype)
    model.set_line(context_line(mesh, context_attention))
    line = part(mesh, TENSOR)
    if line is not None:
        tensor.apply(model, line)
    how = Recompute.of(recompute)
    if how.kind is not None:
        recompute_blocks(model.blocks(), how.kind, how.every)
    if how.budget is not None:
        limit_kept(model.blocks(), model.compile_units() if compile_blocks else (), how.budget)
    if compile_blocks:
        compile_units(model.compile_units())
    # Of a stage that one rank holds alone nothing is to be gathered; its parameters may still be kept on the CPU.
    # What ranks share of a stage's layers is laid out by FSDP as well, so that there is one way for all layouts.
    alone = mesh is None or (sharding_mesh(mesh).size() == 1 and degree(mesh, TENSOR) == 1)
    if mesh is not None and (not alone or degree(mesh, PIPELINE) == 1 or offload):
        fully_shard_blocks(model, sharding_mesh(mesh), gather_dtype or compute_dtype, roots, offload=offload)


def fully_shard_blocks(
    model: Shardable,
    mesh: DeviceMesh,
    gather_dtype: torch.dtype,
    roots: Sequence[nn.Module] | None = None,
    *,
    offload: bool = False,
) -> None:
    """FSDP2: gather one block's weights at a time, reduce gradients in float32; `offload`: from and to the CPU."""
    assert isinstance(model, nn.Module), "a model to shard is a torch module"
    # Inputs are not cast: rotary tables stay float32, the model itself casts what should be.
    policy = MixedPrecisionPolicy(param_dtype=gather_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # Pinned memory is what a GPU copies from without waiting; without one there is none.
    where = CPUOffloadPolicy(pin_memory=mesh.device_type != "cpu") if offload else OffloadPolicy()
    for block in model.blocks():
        fully_shard(block, mesh=mesh, mp_policy=policy, offload_policy=where)
    for root in [model] if roots is None else roots:
        fully_shard(root, mesh=mesh, mp_policy=policy, offload_policy=where)


def home_of(device: torch.device, mesh: DeviceMesh | None, *, offload: bool) -> torch.device:
    """Where parameters, gradients and what the optimizer keeps live, of a model that computes on `device`."""
    return torch.device("cpu") if offload and mesh is not None else device


def compute_device(model: nn.Module) -> torch.device:
    """Where a model computes, which is not where its parameters live when they are offloaded."""
    first = next(model.parameters())
    return torch.device(first.device_mesh.device_type) if isinstance(first, DTensor) else first.device


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
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    # The last dimension was cut first, so it is put together last; torch warns where it is to do all at once.
    for dimension in range(len(placements) - 1):
        placements[dimension] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.full_tensor()


def local_tensor(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; others are given back as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def averaged_over(mesh: DeviceMesh | None) -> int:
    """Ranks over which gradients are averaged."""
    return sharding_mesh(mesh).size() if mesh is not None else 1


@torch.no_grad()
def copy_full(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, known to every rank, into a (possibly sharded) one; no communication."""
    if isinstance(target, DTensor):
        whole = distribute_tensor(whole.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(whole)
