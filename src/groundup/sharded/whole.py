"""Tensors in parts -> the bytes of the file that one rank would have written, a few rows at a time.

Those bytes are either written (consolidation) or only hashed: so a checkpoint has one hash, whoever wrote it.

Invariant: to the bit what safetensors itself writes for these tensors; memory is BLOCK_BYTES, or one row.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groundup.sharded.boxes import Box
from groundup.sharded.index import DTYPE_BYTES, INDEX, read_index
from groundup.sharded.reading import Stored

BLOCK_BYTES = 32 * 2**20
_ORDER = {dtype: place for place, dtype in enumerate(DTYPE_BYTES)}
_ALIGNMENT_BYTES = 8


def blocks(stored: Stored) -> Iterator[bytes | memoryview]:
    """The file's bytes in order; a block is good until the next one is asked for."""
    # Types of more bytes first, then by name: numbers are aligned without gaps.
    names = sorted(stored, key=lambda name: (-_ORDER[stored[name].dtype], name))
    yield _header(stored, names)
    for name in names:
        yield from _numbers(stored, name)


def _header(stored: Stored, names: list[str]) -> bytes:
    facts: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name in names:
        entry = stored[name]
        end = begin + entry.size_bytes
        facts[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _numbers(stored: Stored, name: str) -> Iterator[memoryview]:
    entry = stored[name]
    width, whole = DTYPE_BYTES[entry.dtype], Box.whole(entry.shape)
    if not whole.count:
        return
    rows = entry.shape[0] if entry.shape else 1
    at_once = max(1, BLOCK_BYTES // (math.prod(entry.shape[1:]) * width))
    for first in range(0, rows, at_once):
        box = whole.rows(first, min(at_once, rows - first)) if entry.shape else whole
        block = np.empty((*box.shape, width), dtype=np.uint8)
        stored.read(name, box, block)
        yield block.reshape(-1).data


def write_whole(stored: Stored, path: Path) -> None:
    """Write the whole file, and flush it to the disk."""
    with path.open("wb") as handle:
        for block in blocks(stored):
            handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())


def file_of(stored: Stored) -> dict[str, Any]:
    """{"bytes": ..., "sha256": ...} of the whole file, without writing it."""
    hasher, size = hashlib.sha256(), 0
    for block in blocks(stored):
        hasher.update(block)
        size += len(block)
    return {"bytes": size, "sha256": hasher.hexdigest()}


def whole_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A manifest's files with those whole ones in place of every index and its parts; others as they are.

    Raises ModelFileError where an index does not fit its parts.
    """
    found = dict(files)
    for name in [name for name in files if Path(name).name == INDEX]:
        inner = Path(name).parent
        del found[name]
        for file, entries in read_index(folder / inner).files.items():
            stored = Stored(folder / inner, file, entries)
            for part in {part.file for entry in entries.values() for part in entry.parts}:
                found.pop((inner / part).as_posix(), None)
            found[(inner / file).as_posix()] = file_of(stored)
    return found
