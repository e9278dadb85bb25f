"""A meta model -> recomputed, compiled and sharded as the runtime asks; and sharded tensors <-> whole ones.

    meta -> recompute blocks -> compile blocks -> FSDP2 (a group per block, one for the rest) -> to_empty, initialise
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
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from groundup.parallel.compile import compile_units
from groundup.parallel.mesh import sharding_mesh
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
) -> None:
    """Prepare a meta model for training, in the one order that works. Without `mesh` nothing is sharded.

    `gather_dtype`: in which weights are gathered (None: the compute dtype).
    """
    model.set_compute_dtype(compute_dtype)
    if recompute:
        recompute_blocks(model.blocks())
    if compile_blocks:
        compile_units(model.compile_units())
    if mesh is not None:
        fully_shard_blocks(model, sharding_mesh(mesh), gather_dtype or compute_dtype)


def fully_shard_blocks(model: Shardable, mesh: DeviceMesh, gather_dtype: torch.dtype) -> None:
    """FSDP2: gather one block's weights at a time, reduce gradients in float32."""
    assert isinstance(model, nn.Module), "a model to shard is a torch module"
    # Inputs are not cast: rotary tables stay float32, the model itself casts what should be.
    policy = MixedPrecisionPolicy(param_dtype=gather_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks():
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


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
    if not isinstance(model, FSDPModule):
        with torch.inference_mode():
            yield
        return
    try:
        with torch.no_grad():  # tensors made in inference mode could not be used by later steps
            yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor (a collective: every rank must call it); others are given back as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


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
