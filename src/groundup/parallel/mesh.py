"""Processes -> one process group and a mesh over them. What the launcher says comes in as arguments, not from here.

    torchrun: rank, world size, local rank, address, port  ->  join(...)  ->  DeviceMesh ("data",)

Invariant: nothing in this room reads the environment; without `join` everything runs in one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from pydantic import Field
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from groundup.config import Config

DATA = "data"
"""Name of the mesh dimension over which batches and parameters are split."""
TIMEOUT_SECONDS = 600.0


class ParallelConfig(Config):
    """How the work is split over processes (runtime: changes speed and place, not results beyond rounding)."""

    data_parallel: int = Field(default=1, ge=1)
    """Ranks that share each global batch, parameters and optimizer state sharded over them (FSDP2)."""


@dataclass(frozen=True)
class Rank:
    """This process's place among all, as torchrun hands it out."""

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int


def join(config: ParallelConfig, place: Rank, device_type: str) -> DeviceMesh:
    """Start the process group (gloo on CPUs, nccl on GPUs) and return the mesh over all ranks.

    Raises ValueError when the launcher started another number of processes than the config wants.
    """
    if config.data_parallel != place.world_size:
        raise ValueError(
            f"parallel.data_parallel is {config.data_parallel}, but {place.world_size} processes were started; "
            f"use --nproc-per-node={config.data_parallel} or set it to {place.world_size}"
        )
    if device_type == "cuda":
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group(
        "nccl" if device_type == "cuda" else "gloo",
        init_method=f"tcp://{place.address}:{place.port}",
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
    return data_mesh(device_type)


def data_mesh(device_type: str) -> DeviceMesh:
    """The one-dimensional mesh over all ranks of the process group that is running."""
    return init_device_mesh(device_type, (dist.get_world_size(),), mesh_dim_names=(DATA,))


def leave() -> None:
    """End the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
