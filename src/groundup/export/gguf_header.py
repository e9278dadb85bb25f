"""The header of a GGUF file -> its key-value pairs and where each tensor lies; checked before weights are read.

    magic, version, counts | key-value pairs | name, shape, type, offset of each tensor | aligned data

Invariant: the cursor never reads behind the end of the file, and no memory is taken on the word of an unchecked count.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from groundup.errors import ResourceError
from groundup.export.weights import fault

MAGIC = b"GGUF"
VERSIONS = (2, 3)
COUNT_LIMIT = 1 << 20
STRING_LIMIT_BYTES = 1 << 24
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
PLAIN = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
"""Types of tensors that hold numbers as they are; the others are quantised in blocks."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies, and in which number format."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size_bytes: int


class Header:
    """A cursor over the file that never reads behind its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.position = data, path, 0

    def parse(self) -> tuple[dict[str, Any], dict[str, Entry]]:
        """Key-value pairs, and the tensors by name."""
        magic, version = self._bytes(4), self._number("<I")
        if magic != MAGIC or version not in VERSIONS:
            raise fault(self.path, f"not a GGUF file of version 2 or 3 ({magic!r}, {version}); convert the model again")
        tensors, pairs = self._count(), self._count()
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            if key in metadata:
                raise fault(self.path, f"'{key[:50]}' appears twice; refused, convert the model again")
            metadata[key] = self._value(int(self._number("<I")))
        facts = [self._fact() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20:
            raise fault(self.path, f"general.alignment {str(alignment)[:20]} is no size; convert the model again")
        start = -(-self.position // alignment) * alignment
        entries: dict[str, Entry] = {}
        for name, shape, kind, offset in facts:
            if name in entries:
                raise fault(self.path, f"tensor '{name[:50]}' appears twice; refused, convert the model again")
            entries[name] = self._placed(name, shape, kind, start + offset)
        return metadata, entries

    def _fact(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._string(), int(self._number("<I"))
        if not 1 <= dimensions <= 4:
            raise fault(self.path, f"tensor '{name[:50]}' has {dimensions} dimensions; convert the model again")
        shape = tuple(int(self._number("<Q")) for _ in range(dimensions))[::-1]
        return name, shape, int(self._number("<I")), int(self._number("<Q"))

    def _placed(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> Entry:
        values, size = block_of(kind, name, self.path)
        if shape[-1] % values or not math.prod(shape):
            raise fault(self.path, f"tensor '{name[:50]}' {list(shape)} is not whole blocks; convert the model again")
        size_bytes = math.prod(shape) // values * size
        if start + size_bytes > len(self.data):
            raise fault(self.path, f"tensor '{name[:50]}' ends behind the file; cut off, copy it again")
        return Entry(shape, kind, start, size_bytes)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            inner, length = int(self._number("<I")), int(self._number("<Q"))
            smallest = 8 if inner == _STRING else struct.calcsize(_SCALARS.get(inner, "<B"))
            if inner == _ARRAY or length * smallest > len(self.data) - self.position:
                raise fault(self.path, f"an array of {length} values does not fit the file; copy it again")
            return [self._value(inner) for _ in range(length)]
        if kind not in _SCALARS:
            raise fault(self.path, f"a value of unknown type {kind}; convert the model again")
        return self._number(_SCALARS[kind])

    def _count(self) -> int:
        count = int(self._number("<Q"))
        if count > COUNT_LIMIT:
            raise fault(self.path, f"its header claims {count} entries; damaged, copy it again")
        return count

    def _string(self) -> str:
        length = int(self._number("<Q"))
        if length > STRING_LIMIT_BYTES:
            raise fault(self.path, f"a text of {length} bytes in its header; damaged, copy it again")
        return self._bytes(length).decode("utf-8", errors="replace")

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise fault(self.path, "its header ends too early; cut off, copy it again")
        found = self.data[self.position : end]
        self.position = end
        return found


def block_of(kind: int, name: str, path: Path) -> tuple[int, int]:
    """Values in a block of a tensor type, and its bytes. Raises ModelFileError for a type that is not known."""
    if kind in PLAIN:
        return 1, PLAIN[kind].itemsize
    constants = quantised(path)
    known = {int(one): size for one, size in constants.GGML_QUANT_SIZES.items()}
    if kind not in known:
        raise fault(path, f"tensor '{name[:50]}' is of unknown type {kind}; convert it to Q8_0, F16 or BF16")
    values, size = known[kind]
    return int(values), int(size)


def quantised(path: Path) -> Any:
    """The package that knows quantised blocks. Raises ResourceError when it is not installed."""
    try:
        import gguf
    except ImportError:
        raise ResourceError(
            f"{path.name}: quantised weights need the package gguf; install it: pip install 'groundup[gguf]'"
        ) from None
    return gguf
