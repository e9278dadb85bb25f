"""Tensor parallel: a meta model whose layers several ranks compute together, and what they say to each other.

    column   y = x W^T: each rank has some rows of W (its heads, its inner columns)    Shoeybi et al. 2019, 1909.08053
    row      each has the columns that belong to them; products are added up
    between  norms and residuals of own positions only ("sequence parallel"): all-gather before the columns,
             reduce-scatter behind the rows, the opposite in the backward           Korthikanti et al. 2022, 2205.05198

Parameters become DTensors over the ranks, so that names, checkpoints and optimizers see whole matrices; the layers
compute with what is local. Invariant: losses and gradients are those of one rank, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor

from groundup.errors import RecipeError

_PLACEMENTS: dict[str, dict[str, Placement]] = {
    "column": {"weight": Shard(0), "bias": Shard(0), "up": Shard(0), "magnitude": Shard(0)},
    "row": {"weight": Shard(1), "down": Shard(1)},
    "table": {"weight": Shard(0)},
}
"""Of the parameters of a module (a layer, or the adapter on one), by how it is laid out; what is not named, every rank
has whole."""


class Layout(Protocol):
    """What a model says of the parameters of one module."""

    @property
    def how(self) -> str:
        """`column`, `row`, `table` or `shared`."""

    @property
    def pieces(self) -> int:
        """Groups of rows that stay together."""


class Splittable(Protocol):
    """A model that says of itself how ranks may share its layers."""

    lane: Any

    def tensor_plan(self) -> Mapping[str, Layout]:
        """Path of a module -> how its parameters are laid out."""


class Lane:
    """This rank among those of one line of the mesh; what `groundup.models.lane` asks for."""

    def __init__(self, line: DeviceMesh) -> None:
        self.part, self.parts = line.get_local_rank(), line.size()
        self._group = line.get_group().group_name
        self._time: int | None = None

    def begin(self, time: int) -> None:
        """Rows are so long from now on."""
        self._time = time

    def cut(self, x: Tensor) -> Tensor:
        """[rows, time, size] -> own part of time; each is equally long, with zeros behind the end of the row."""
        self._time = x.shape[1]
        length = -(-x.shape[1] // self.parts)
        return self._padded(x)[:, self.part * length : (self.part + 1) * length].contiguous()

    def gather(self, x: Tensor) -> Tensor:
        """[rows, own, size] -> [rows, time, size], time as at the last `cut`; all of it where nothing was cut here."""
        rows, length, size = x.shape
        parts = self._gathered(x).view(self.parts, rows, length, size)
        return parts.transpose(0, 1).reshape(rows, self.parts * length, size)[:, : self._time]

    def scatter(self, x: Tensor) -> Tensor:
        """[rows, time, size] -> own part of time of the sum over the ranks."""
        x = self._padded(x)
        rows, time, size = x.shape
        parts = x.view(rows, self.parts, time // self.parts, size).transpose(0, 1).reshape(-1, time // self.parts, size)
        ops = torch.ops._c10d_functional
        found: Tensor = ops.wait_tensor(ops.reduce_scatter_tensor(parts, "sum", self.parts, self._group))
        return found

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks; its gradient is summed too."""
        return self._reduced(x, "sum")

    def highest(self, x: Tensor) -> Tensor:
        """The maximum over the ranks."""
        return self._reduced(x.detach(), "max")

    def join(self, x: Tensor, size: int) -> Tensor:
        """[..., own] -> [..., size], the parts behind each other; the last ones may be shorter."""
        length = -(-size // self.parts)
        padded = nn.functional.pad(x, (0, length - x.shape[-1]))
        parts = self._gathered(padded).view(self.parts, *padded.shape)
        return parts.movedim(0, -2).flatten(-2)[..., :size]

    def _padded(self, x: Tensor) -> Tensor:
        missing = -x.shape[1] % self.parts
        return nn.functional.pad(x, (0, 0, 0, missing)) if missing else x

    def _gathered(self, x: Tensor) -> Tensor:
        ops = torch.ops._c10d_functional
        found: Tensor = ops.wait_tensor(ops.all_gather_into_tensor(x.contiguous(), self.parts, self._group))
        return found

    def _reduced(self, x: Tensor, how: str) -> Tensor:
        ops = torch.ops._c10d_functional
        found: Tensor = ops.wait_tensor(ops.all_reduce(x.contiguous(), how, self._group))
        return found


def apply(model: Splittable, line: DeviceMesh) -> None:
    """Share the layers of a meta model over the ranks of `line`, as it says of itself.

    Raises RecipeError when the last rank would have no token of the vocabulary.
    """
    assert isinstance(model, nn.Module), "a model to share out is a torch module"
    lane = Lane(line)
    model.lane = lane
    for name, layout in model.tensor_plan().items():
        module: Any = model.get_submodule(name)
        if layout.how != "column":
            module.lane = lane
        placements: Mapping[str, Placement] = _PLACEMENTS.get(layout.how, {})
        if layout.how == "column" and layout.pieces % lane.parts:
            placements = {}
            module.rows = _rows_of_own_piece(module.out_size, layout.pieces, lane)
        if layout.how == "table":
            placements = _of_table(module.weight, lane)
        _distribute(module, line, placements)
    for module in model.modules():
        _distribute(module, line, {})


def _rows_of_own_piece(rows: int, pieces: int, lane: Lane) -> tuple[int, int]:
    """From which row to which the one piece goes that this rank and its neighbours use."""
    height, piece = rows // pieces, lane.part * pieces // lane.parts
    return piece * height, (piece + 1) * height


def _of_table(table: Tensor | None, lane: Lane) -> Mapping[str, Placement]:
    """Shared out if all parts are equal; else whole on every rank, each of which uses its own rows."""
    if table is None:
        return {}
    if len(table) <= -(-len(table) // lane.parts) * (lane.parts - 1):
        raise RecipeError(
            f"runtime.parallel.tensor: {lane.parts} ranks cannot share {len(table)} tokens; use fewer ranks"
        )
    return {} if len(table) % lane.parts else _PLACEMENTS["table"]


def _distribute(module: nn.Module, line: DeviceMesh, placements: Mapping[str, Placement]) -> None:
    """Make DTensors of a module's own parameters, where they are none yet."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if not isinstance(parameter, DTensor):
            placement = placements.get(name, Replicate())
            placed = distribute_tensor(parameter.detach(), line, [placement], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(placed, requires_grad=parameter.requires_grad))
