"""safetensors files -> any box of any tensor in them, whether it lies in one file or in parts in several.

    open_stored(folder, "model.safetensors")     by the index, where there is one; else that file itself
    stored.read(name, box, out)                  only the numbers of the box are touched

Invariant: files are mapped, not read; memory is what the caller hands in. Headers are checked before a number is read.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.errors import OF_THE_PROCESS
from groundup.sharded.boxes import Box
from groundup.sharded.index import DTYPE_BYTES, Entry, Part, fault, is_sharded, key_of, read_index

_HEADER_LIMIT_BYTES = 100_000_000
_OPEN_FILES = 256
Bytes = npt.NDArray[np.uint8]
"""Numbers as bytes: the last dimension is those of one number."""


class Mapped:
    """One safetensors file, its header checked."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError where the file is missing, cut off or contradicts itself."""
        self.path = path
        try:
            with path.open("rb") as handle:
                content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in OF_THE_PROCESS:
                raise
            raise fault(path, f"cannot be read as safetensors ({str(error)[:60]})") from None
        self._bytes: Bytes = np.frombuffer(content, dtype=np.uint8)
        self._first, self._facts = self._header()

    def _header(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """(where numbers begin, {name: dtype, shape, data_offsets})."""
        size = int.from_bytes(self._bytes[:8].tobytes(), "little")
        if len(self._bytes) < 8 or size > min(_HEADER_LIMIT_BYTES, len(self._bytes) - 8):
            raise fault(self.path, "cannot be read as safetensors (its header is cut off)")
        try:
            facts = json.loads(self._bytes[8 : 8 + size].tobytes())
            facts.pop("__metadata__", None)
            for each in facts.values():
                begin, end = each["data_offsets"]
                if not 0 <= begin <= end <= len(self._bytes) - 8 - size:
                    raise ValueError("offsets beyond the file")
                if end - begin != math.prod(each["shape"]) * DTYPE_BYTES[each["dtype"]]:
                    raise ValueError("offsets that do not fit a shape")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise fault(self.path, f"cannot be read as safetensors ({str(error)[:60]})") from None
        return 8 + size, facts

    def entries(self) -> dict[str, Entry]:
        """Its tensors as whole ones."""
        return {
            name: Entry(each["dtype"], shape, (Part(self.path.name, Box.whole(shape)),))
            for name, each in self._facts.items()
            for shape in [tuple(each["shape"])]
        }

    def view(self, key: str, dtype: str, shape: tuple[int, ...]) -> Bytes:
        """A tensor's numbers [*shape, bytes of one] where they lie. Raises ModelFileError where it is another."""
        found = self._facts.get(key)
        if found is None or (found["dtype"], tuple(found["shape"])) != (dtype, shape):
            what = "no such part" if found is None else f"{found['dtype']} of shape {found['shape']}"
            raise fault(self.path, f"{key[:60]}: {dtype} of shape {list(shape)} by the index, {what} in the file")
        begin, end = found["data_offsets"]
        return self._bytes[self._first + begin : self._first + end].reshape(*shape, DTYPE_BYTES[dtype])


class Stored(Mapping[str, Entry]):
    """The tensors that one whole file has, or would have: facts by name, and their numbers."""

    def __init__(self, folder: Path, file: str, entries: Mapping[str, Entry]) -> None:
        self.path = folder / file
        self._entries = entries
        self._mapped: dict[str, Mapped] = {}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self) -> None:
        """Raise ModelFileError unless every part is in its file, as the index says."""
        for name, entry in self.items():
            for part in entry.parts:
                self._view(name, part)

    def read(self, name: str, box: Box, out: Bytes) -> None:
        """Fill `out` [*box.shape, bytes of a number] with a box of a tensor. Raises ModelFileError as `check`."""
        for part in self[name].parts:
            shared = part.box.overlap(box)
            if shared is not None:
                out[shared.inside(box)] = self._view(name, part)[shared.inside(part.box)]

    def _view(self, name: str, part: Part) -> Bytes:
        if part.file not in self._mapped:
            if len(self._mapped) >= _OPEN_FILES:  # a map keeps its file open, and a process may have few of those
                self._mapped.clear()
            self._mapped[part.file] = Mapped(self.path.parent / part.file)
        entry = self[name]
        return self._mapped[part.file].view(key_of(name, part.box, entry.shape), entry.dtype, part.box.shape)


def open_stored(folder: Path, file: str) -> Stored:
    """The tensors of a whole file in `folder`, which may lie in parts; ModelFileError where they are not there."""
    if is_sharded(folder):
        index = read_index(folder)
        if file in index.files:
            return Stored(folder, file, index.files[file])
    return Stored(folder, file, Mapped(folder / file).entries())


def check(folder: Path) -> None:
    """Raise ModelFileError where the index of a folder, if it has one, does not fit its files."""
    if is_sharded(folder):
        for file, entries in read_index(folder).files.items():
            Stored(folder, file, entries).check()
