"""Tensors in a checkpoint's files -> the places where they belong: each rank reads only what it holds.

    stored_tensors(folder, "model.safetensors")    {name: StoredTensor}; nothing is read yet
    each.fill(parameter)                           this rank's box of it, from whichever files it overlaps
    read_tensors(path)                             whole tensors, each read when it is asked for

Invariant: memory is one rank's part of one tensor; no number that is NaN or infinite is given out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from groundup.errors import ModelFileError
from groundup.parallel.held import box_held
from groundup.parallel.shard import copy_full, local_tensor
from groundup.sharded import Box, Stored, open_stored

CODES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""How safetensors names the types of numbers."""
_TYPES = {code: dtype for dtype, code in CODES.items()}


class StoredTensor:
    """One whole tensor that lies in files."""

    def __init__(self, stored: Stored, name: str) -> None:
        """Raises ModelFileError for numbers of a type that no model has."""
        self._stored, self._name, self._entry = stored, name, stored[name]
        if self._entry.dtype not in _TYPES:
            raise ModelFileError(f"{stored.path}: tensor {name} is of type {self._entry.dtype}, which is not read here")

    @property
    def shape(self) -> torch.Size:
        """Of the whole tensor."""
        return torch.Size(self._entry.shape)

    def read(self, box: Box) -> Tensor:
        """A box of it, on the CPU. Raises ModelFileError where it holds NaN or infinity."""
        found = torch.empty(box.shape, dtype=_TYPES[self._entry.dtype])
        if not box.count:
            return found
        self._stored.read(self._name, box, found.view(-1).view(torch.uint8).view(*box.shape, -1).numpy())
        if found.is_floating_point() and not torch.isfinite(found).all():
            raise ModelFileError(
                f"{self._stored.path}: tensor {self._name} holds NaN or infinity; use an earlier checkpoint"
            )
        return found

    def whole(self) -> Tensor:
        """All of it."""
        return self.read(Box.whole(self._entry.shape))

    def item(self) -> float | int | bool:
        """The number, of a tensor of one."""
        return self.whole().item()

    @torch.no_grad()
    def fill(self, target: Tensor) -> None:
        """Copy this rank's part into a tensor of the same whole shape, sharded or not."""
        if isinstance(target, DTensor) and any(placement.is_partial() for placement in target.placements):
            copy_full(target, self.whole())
            return
        local_tensor(target).copy_(self.read(box_held(target)))


def stored_tensors(folder: Path, file: str) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint's whole file, in parts or not. Raises ModelFileError where they cannot be read."""
    stored = open_stored(folder, file)
    return {name: StoredTensor(stored, name) for name in stored}


class ReadTensors(Mapping[str, Tensor]):
    """Whole tensors by name, each read anew whenever it is asked for; `stored` has them where they lie."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self.stored = stored

    def __getitem__(self, name: str) -> Tensor:
        return self.stored[name].whole()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def read_tensors(path: Path) -> ReadTensors:
    """Tensors of a safetensors file that may lie in parts beside its name.

    Raises ModelFileError, then or when one is asked for, where something is damaged or holds NaN or infinity.
    """
    return ReadTensors(stored_tensors(path.parent, path.name))
