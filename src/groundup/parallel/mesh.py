"""Processes -> one process group and a mesh over them. What the launcher says comes in as arguments, not from here.

    torchrun: rank, world size, local rank, address, port  ->  join(...)  ->  DeviceMesh

    shard: 0 (of 4 ranks)   ("data",)                  parameters, gradients, optimizer state in 4 parts (FSDP)
    shard: 2                ("replicate", "shard")     2 copies in 2 parts each (hybrid)
    shard: 1                ("replicate", "shard")     4 copies (as DDP)

    pipeline, context and tensor add a dimension each where they are above 1, from the outermost to the innermost:
    ("pipeline", <one of the above>, "context", "tensor")       so ranks of one layer's products are neighbours

Rows of a batch are split over the data dimensions only. Invariant: nothing in this room reads the environment; without
`join` everything runs in one process.
"""

from __future__ import annotations

import atexit
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import Store

from groundup.config import Config
from groundup.errors import RecipeError

DATA = "data"
"""Name of the mesh dimension over which batches and parameters are split."""
REPLICATE, SHARD = "replicate", "shard"
"""Names of the two dimensions, over both of which batches are split, where there are several copies of the model."""
DATA_NAMES = (DATA, REPLICATE, SHARD)
"""Names of all dimensions over which batches are split."""
PIPELINE, CONTEXT, TENSOR = "pipeline", "context", "tensor"
"""Names of the dimensions over which layers, positions of a row and the parts of a matrix are split."""
ContextAttention = Literal["auto", "gather", "ring"]
"""How keys and values reach the ranks that have other positions of the same rows."""
TIMEOUT_SECONDS = 600.0
_WITH_CONTEXT = "with_context"


class ParallelConfig(Config):
    """How training is split over ranks. What tensor, context and pipeline leave of them have rows of their own."""

    shard: int = Field(default=0, ge=0)
    """Ranks that hold one copy of parameters, gradients and optimizer state together, each a part (FSDP2); 0: all that
    have rows, 1: each has a copy of its own (as DDP), between: several copies (hybrid), best each within one machine.
    """
    tensor: int = Field(default=1, ge=1)
    """Ranks that compute every layer together, each a part of its heads and of its width (tensor parallel)."""
    context: int = Field(default=1, ge=1)
    """Ranks that share the positions of a row (context parallel), for rows too long for one; context_length must be a
    multiple of twice as many.
    """
    context_attention: ContextAttention = "auto"
    """How they get each other's keys and values: all at once (gather), or from rank to rank while they compute, which
    takes less memory (ring); auto: the ring from 16,384 positions on.
    """
    pipeline: int = Field(default=1, ge=1)
    """Ranks behind each other, each with a part of the layers (pipeline parallel)."""
    offload: bool = False
    """Parameters, gradients and optimizer state of a GPU live in the CPU's memory, and the optimizer works there: room
    for larger models, slowly. On CPUs it changes nothing."""
    schedule: Literal["1f1b", "interleaved", "gpipe"] = "1f1b"
    """Order of a pipeline's work: a forward and a backward in turn (least memory); the same with several stages on each
    rank (less waiting, more sending); or all forwards, then all backwards."""
    stages_per_rank: int = Field(default=0, ge=0)
    """Stages on each rank of a pipeline; 0: two where the schedule is interleaved, else one."""

    @model_validator(mode="after")
    def _stages_fit_the_schedule(self) -> ParallelConfig:
        if self.pipeline == 1:
            return self
        looped = self.schedule == "interleaved"
        if self.stages_per_rank and looped != (self.stages_per_rank > 1):
            wanted = "2 or more" if looped else "1"
            raise ValueError(f"stages_per_rank: {self.stages_per_rank}, but schedule {self.schedule} needs {wanted}")
        return self

    @property
    def stages(self) -> int:
        """Parts that a pipeline divides the layers into."""
        return self.pipeline * (self.stages_per_rank or (2 if self.schedule == "interleaved" else 1))

    @property
    def ranks_of_a_row(self) -> int:
        """Ranks that work on the same rows."""
        return self.tensor * self.context * self.pipeline

    def data_ranks(self, world_size: int) -> int:
        """Groups of ranks with rows of their own."""
        return max(1, world_size // self.ranks_of_a_row)


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
    """How often torchrun has started the ranks of this machine before."""


def check_layout(config: ParallelConfig, world_size: int) -> None:
    """Raise RecipeError when the ranks cannot be grouped as the config says."""
    if world_size % config.ranks_of_a_row:
        degrees = {TENSOR: config.tensor, CONTEXT: config.context, PIPELINE: config.pipeline}
        product = " x ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1)
        raise RecipeError(
            f"runtime.parallel: {product} does not divide {world_size} ranks; their product must be a divisor"
        )
    with_rows = config.data_ranks(world_size)
    if config.shard and with_rows % config.shard:
        raise RecipeError(
            f"runtime.parallel.shard: {config.shard} does not divide {with_rows} ranks into equal groups;"
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
        _backend(config, device_type),
        init_method=None if store is not None else f"tcp://{place.address}:{place.port}",
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
    return data_mesh(device_type, config)


def alone(config: ParallelConfig, device_type: str) -> DeviceMesh | None:
    """The mesh of a single process where it needs one: to offload what a GPU trains; None elsewhere."""
    if device_type == "cpu" or not config.offload:
        return None
    return mesh_of_one(config, device_type)


def mesh_of_one(config: ParallelConfig, device_type: str) -> DeviceMesh:
    """A mesh over this process, which starts a process group of its own that ends with the process."""
    if not dist.is_initialized():
        store: Store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(_backend(config, device_type), store=store, rank=0, world_size=1)
        atexit.register(leave)
    return data_mesh(device_type, config)


def _backend(config: ParallelConfig, device_type: str) -> str:
    """What carries the collectives; those of offloaded gradients (their norm) and weights are between CPUs."""
    if device_type == "cpu":
        return "gloo"
    return "cpu:gloo,cuda:nccl" if config.offload else "nccl"


def data_mesh(device_type: str, config: ParallelConfig) -> DeviceMesh:
    """The mesh over all ranks of the process group that is running, grouped as `config` says."""
    with_rows = config.data_ranks(dist.get_world_size())
    copies = {DATA: with_rows}
    if config.shard not in (0, with_rows):
        copies = {REPLICATE: with_rows // config.shard, SHARD: config.shard}
    before = {PIPELINE: config.pipeline} if config.pipeline > 1 else {}
    behind = {name: degree for name, degree in ((CONTEXT, config.context), (TENSOR, config.tensor)) if degree > 1}
    sizes = {**before, **copies, **behind}
    mesh = init_device_mesh(device_type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
    sharding_mesh(mesh)  # groups are made here, by all ranks together and on real tensors; later calls find them
    return mesh


def names_of(mesh: DeviceMesh) -> tuple[str, ...]:
    """The names of a mesh's dimensions, from the outermost."""
    assert mesh.mesh_dim_names is not None, "every mesh of this room has names"
    return mesh.mesh_dim_names


def degree(mesh: DeviceMesh | None, name: str) -> int:
    """Ranks along a dimension; 1 where there is no such dimension."""
    return mesh[name].size() if mesh is not None and name in names_of(mesh) else 1


def part(mesh: DeviceMesh | None, name: str) -> DeviceMesh | None:
    """This rank's line along a dimension; None where there is no such dimension."""
    return mesh[name] if mesh is not None and name in names_of(mesh) else None


def data_size(mesh: DeviceMesh | None) -> int:
    """Groups of ranks with rows of their own."""
    return math.prod(degree(mesh, name) for name in DATA_NAMES)


def data_rank(mesh: DeviceMesh | None) -> int:
    """This rank's group among them."""
    place = 0
    for name in DATA_NAMES:
        line = part(mesh, name)
        if line is not None:
            place = place * line.size() + line.get_local_rank()
    return place


def sharding_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """The one or two dimensions over which FSDP reduces gradients: those of data, and that of a row's positions."""
    names = names_of(mesh)
    if CONTEXT not in names:
        return mesh[DATA] if DATA in names else mesh[REPLICATE, SHARD]
    together = mesh[DATA if DATA in names else SHARD, CONTEXT]._flatten(_WITH_CONTEXT)
    return together if DATA in names else DeviceMesh._concatenate([mesh[REPLICATE], together])


def sum_over_rows(tensor: Tensor, mesh: DeviceMesh | None) -> None:
    """Add up in place what every rank has of its own rows, or of its part of them (a collective)."""
    if mesh is None:
        return
    lines = sharding_mesh(mesh)
    if lines.size() == mesh.size() > 1:
        dist.all_reduce(tensor)
        return
    for name in names_of(lines):
        if lines[name].size() > 1:
            dist.all_reduce(tensor, group=lines[name].get_group())


def leave() -> None:
    """End the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
