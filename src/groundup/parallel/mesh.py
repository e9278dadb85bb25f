"""Processes -> one process group and a mesh over them. What the launcher says comes in as arguments, not from here.

    torchrun: rank, world size, local rank, address, port  ->  join(...)  ->  DeviceMesh

    shard: 0 (of 4 ranks)   ("data",)                  parameters, gradients, optimizer state in 4 parts (FSDP)
    shard: 2                ("replicate", "shard")     2 copies in 2 parts each (hybrid)
    shard: 1                ("replicate", "shard")     4 copies (as DDP)

Invariant: nothing in this room reads the environment; without `join` everything runs in one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from pydantic import Field
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import Store

from groundup.config import Config
from groundup.errors import RecipeError

DATA = "data"
"""Name of the mesh dimension over which batches and parameters are split."""
REPLICATE, SHARD = "replicate", "shard"
"""Names of the two dimensions, over both of which batches are split, where there are several copies of the model."""
TIMEOUT_SECONDS = 600.0


class ParallelConfig(Config):
    """How training is split over ranks; every rank has its rows of each global batch."""

    shard: int = Field(default=0, ge=0)
    """Ranks that hold one copy of parameters, gradients and optimizer state together, each a part (FSDP2); 0: all of
    them, 1: each has a copy of its own (as DDP), between: several copies (hybrid), best each within one machine."""


@dataclass(frozen=True)
class Rank:
    """This process's place among all, as torchrun hands it out."""

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int
    local_world_size: int = 1
    """Ranks on this machine, which share its cores."""
    attempt: int = 0
    """How often torchrun has started these ranks before; it keeps its store."""


def check_layout(config: ParallelConfig, world_size: int) -> None:
    """Raise RecipeError when the ranks cannot be grouped as the config says."""
    if config.shard and world_size % config.shard:
        raise RecipeError(
            f"runtime.parallel.shard: {config.shard} does not divide {world_size} ranks into equal groups;"
            " use a divisor, or 0 for all of them"
        )


def join(config: ParallelConfig, place: Rank, device_type: str, store: Store | None = None) -> DeviceMesh:
    """Start the process group (gloo on CPUs, nccl on GPUs) and return the mesh over all ranks.

    `store`: where the ranks meet, when they have met already. Raises RecipeError when they cannot be grouped as asked.
    """
    check_layout(config, place.world_size)
    if device_type == "cuda":
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group(
        "nccl" if device_type == "cuda" else "gloo",
        init_method=None if store is not None else f"tcp://{place.address}:{place.port}",
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
    return data_mesh(device_type, config.shard)


def data_mesh(device_type: str, shard: int = 0) -> DeviceMesh:
    """The mesh over all ranks of the process group that is running, in copies of `shard` ranks each (0: one copy)."""
    world_size = dist.get_world_size()
    if shard in (0, world_size):
        return init_device_mesh(device_type, (world_size,), mesh_dim_names=(DATA,))
    return init_device_mesh(device_type, (world_size // shard, shard), mesh_dim_names=(REPLICATE, SHARD))


def leave() -> None:
    """End the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
