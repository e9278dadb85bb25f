"""The index of tensors in parts: which whole files they stand for, and where each part of each tensor lies.

    {"format": 1, "ranks": 4, "files": {"model.safetensors": {"head.weight": {"dtype": "F32", "shape": [64, 16],
        "parts": [["model-00000-of-00004.safetensors", [0, 0], [16, 16]], ...]}}}}

A part lies in its file under the tensor's name, with its offset behind it where it is not the whole tensor. Invariant:
an index that was read gives every number of every tensor exactly once, from files of its own folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.errors import ModelFileError
from groundup.sharded.boxes import Box, tiling_fault

INDEX = "parts.json"
FORMAT_VERSION = 1
DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
"""Bytes of a number by the format's code of its type; a file has the tensors of the last of these types first."""
_PART_FILE = re.compile(r"[a-z]+-\d{5}-of-\d{5}\.safetensors")
_WHOLE_FILE = re.compile(r"[a-z]+\.safetensors")


@dataclass(frozen=True)
class Part:
    """A box of a tensor, in a file beside the index."""

    file: str
    box: Box


@dataclass(frozen=True)
class Entry:
    """A whole tensor: type (as the format codes it), shape, and its parts."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Index:
    """Whole file -> tensor -> where it lies. `ranks`: how many have written."""

    ranks: int
    files: Mapping[str, Mapping[str, Entry]]

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.size_bytes for tensors in self.files.values() for entry in tensors.values())

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        files = {
            file: {
                name: {
                    "dtype": entry.dtype,
                    "shape": list(entry.shape),
                    "parts": [[part.file, list(part.box.offset), list(part.box.shape)] for part in entry.parts],
                }
                for name, entry in sorted(tensors.items())
            }
            for file, tensors in self.files.items()
        }
        return {"format": FORMAT_VERSION, "ranks": self.ranks, "files": files}


def part_file(whole: str, rank: int, ranks: int) -> str:
    """Name of the file in which a rank writes its parts of what one rank would write to `whole`."""
    return f"{whole.removesuffix('.safetensors')}-{rank:05d}-of-{ranks:05d}.safetensors"


def key_of(name: str, box: Box, shape: tuple[int, ...]) -> str:
    """The name of a part in its file."""
    return name if box == Box.whole(shape) else f"{name}@{','.join(map(str, box.offset))}"


def is_sharded(folder: Path) -> bool:
    """Whether tensors lie there in parts."""
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> Index:
    """The index in `folder`. Raises ModelFileError where it is damaged or its parts do not make up the tensors."""
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT_VERSION:
            raise fault(path, f"format {str(content['format'])[:20]}, this Groundup reads {FORMAT_VERSION}")
        files = {
            str(file): {str(name): _entry(facts) for name, facts in tensors.items()}
            for file, tensors in content["files"].items()
        }
        found = Index(int(content["ranks"]), files)
    except ModelFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise fault(path, f"no index of parts ({type(error).__name__}: {str(error)[:40]})") from None
    wrong = index_fault(found)
    if wrong is not None:
        raise fault(path, wrong)
    return found


def _entry(facts: Mapping[str, Any]) -> Entry:
    parts = tuple(Part(str(file), Box(_sizes(offset), _sizes(shape))) for file, offset, shape in facts["parts"])
    return Entry(str(facts["dtype"]), _sizes(facts["shape"]), parts)


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise TypeError(f"{str(values)[:20]} is no shape")
    return tuple(values)


def index_fault(index: Index) -> str | None:
    """Why the parts do not give each number of each tensor once, from plain names of files; None where they do."""
    for file, tensors in index.files.items():
        if not _WHOLE_FILE.fullmatch(file):
            return f"{file[:40]!r} is no name of a file of tensors"
        for name, entry in tensors.items():
            if entry.dtype not in DTYPE_BYTES:
                return f"{name[:60]} is of an unknown type {entry.dtype[:10]!r}"
            strange = next((part.file for part in entry.parts if not _PART_FILE.fullmatch(part.file)), None)
            if strange is not None:
                return f"{strange[:40]!r} is no name of a file of parts"
            wrong = tiling_fault([part.box for part in entry.parts], entry.shape)
            if wrong is not None:
                return f"{name[:60]}: {wrong}"
    return None


def fault(path: Path, text: str) -> ModelFileError:
    """A ModelFileError that names the file and its folder."""
    return ModelFileError(f"{path.parent.name[:40]}/{path.name}: {text}; restore it, or use an earlier checkpoint")
