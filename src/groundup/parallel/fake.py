"""A cluster that is not there: one process acts as rank 0 of W, on tensors that have shapes but no memory.

    with fake_world(8) as mesh:
        state = build_state(..., mesh=mesh)        the real functions; every operation is traced, none is computed
        train_step(state, ...)

Invariant: the code inside is the code that trains. A step that reads a value (`.item()`, `if tensor:`) fails here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.parallel.mesh import ParallelConfig, data_mesh

_MESH_BOOKKEEPING = (
    "_compute_coordinates_from_mesh",
    "__init__",
    "_concatenate",
    "_flatten",
    "_unflatten",
    "_create_flatten_mesh",
    "_create_sub_mesh",
    "__getitem__",
    "_get_slice_mesh_dims",
)


@contextmanager
def fake_world(world_size: int, config: ParallelConfig | None = None) -> Iterator[DeviceMesh]:
    """Fake process group of `world_size` ranks (this is rank 0) and fake tensors on the CPU device, inside the block.

    `config`: how the ranks are grouped (None: by data, fully sharded). Raises RuntimeError when a real process group
    is running.
    """
    if dist.is_initialized():
        raise RuntimeError("a process group is running in this process; simulate in a process of its own")
    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    try:
        config = config or ParallelConfig()
        pipelined = _shapes_as_given() if config.pipeline > 1 else nullcontext()
        with _real_mesh_bookkeeping(), _replaced_parameters(), pipelined:
            mesh = data_mesh("cpu", config)
            with FakeTensorMode(allow_non_fake_inputs=True):
                yield mesh
    finally:
        dist.destroy_process_group()


@contextmanager
def _real_mesh_bookkeeping() -> Iterator[None]:
    """Let DeviceMesh do its rank arithmetic on real tensors: under fake ones it fails for more than one dimension."""
    members = {name: DeviceMesh.__dict__[name] for name in _MESH_BOOKKEEPING if name in DeviceMesh.__dict__}
    for name, member in members.items():
        setattr(DeviceMesh, name, _outside_fake(member))
    try:
        yield
    finally:
        for name, member in members.items():
            setattr(DeviceMesh, name, member)


@contextmanager
def _shapes_as_given() -> Iterator[None]:
    """Let a pipeline's stages take the shapes they were given: they would vote on it, and read what came out."""
    from torch.distributed.pipelining import _utils, schedules  # here, because it takes a second and few need it

    def without_a_vote(schedule: Any, stages: Sequence[Any], has_backward: bool, p2p_done: bool) -> None:
        for stage in stages:
            stage._inference_mode = _utils.InferenceMode.STATIC

    kind: Any = schedules._PipelineSchedule
    voting = kind._warmup_p2p
    kind._warmup_p2p = without_a_vote
    try:
        yield
    finally:
        kind._warmup_p2p = voting


@contextmanager
def _replaced_parameters() -> Iterator[None]:
    """Let `to_empty` put new parameters in place of plain ones; fake ones it could not exchange in place."""
    exchange = nn.Module.to_empty

    def to_empty(model: nn.Module, *, device: Any, recurse: bool = True) -> nn.Module:
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            return exchange(model, device=device, recurse=recurse)
        for module in model.modules():
            for name, found in list(module.named_parameters(recurse=False)):
                made = nn.Parameter(torch.empty_like(found, device=device), requires_grad=found.requires_grad)
                module.register_parameter(name, made)
        return model

    nn.Module.to_empty = to_empty  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.to_empty = exchange  # type: ignore[method-assign]


def _outside_fake(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return type(member)(_outside_fake(member.__func__))
    function: Callable[..., Any] = member

    @functools.wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return outside
