"""Arrays of numbers <-> raw files: written whole or not at all, read a stretch at a time by position.

A stretch is one `pread`, not a memory map. Training reads rows in random order, and where a map faults a page in, the
kernel reads ahead as if the neighbours came next: from a cold disk that was 20 times slower than asking for the row
alone. A map also counts as resident memory, keeps a descriptor open per file, and kills the process when the file is
cut short; here that is a DataError. Invariant: opening looks at the files' sizes only; no file stays open.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import OF_THE_PROCESS, DataError
from groundup.stage import fsync_file, fsync_folder


def token_dtype(vocab_size: int) -> str:
    """Smallest storage for ids below `vocab_size`: "<u2" up to 65536 tokens, else "<u4"."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write raw bytes of an array so that `path` is either absent or whole: temporary file, fsync, rename."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as handle:
            array.tofile(handle)
        fsync_file(temporary)
        os.replace(temporary, path)
    except OSError:  # what a full disk lets be written is of no use
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


class StoredArrays:
    """Files of raw numbers of one dtype; `counts[i]` says how many are in `paths[i]`.

    Raises DataError when a file is missing or has another size.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], dtype: str) -> None:
        self._paths = [str(path) for path in paths]
        self._dtype = np.dtype(dtype)
        for path, count in zip(self._paths, counts):
            _check_size(path, count * self._dtype.itemsize)

    def read(self, file: int, first: int, count: int) -> NDArray[Any]:
        """Numbers `first` to `first + count` of a file, read-only. Raises DataError where it has become shorter."""
        path, width = self._paths[file], self._dtype.itemsize
        try:
            content = _read_at(path, first * width, count * width)
        except OSError as error:
            if error.errno in OF_THE_PROCESS:
                raise
            where = f"{path}: cannot be read from byte {first * width} on ({error.strerror})"
            raise DataError(f"{where}; mend the disk, or remove the folder") from None
        if len(content) < count * width:
            raise DataError(f"{path}: was cut short while in use; remove the stage's folder and run again")
        return np.frombuffer(content, dtype=self._dtype)


def _check_size(path: str, expected: int) -> None:
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        raise DataError(f"{path}: missing, but the index lists it; remove the stage's folder and run again") from None
    if size != expected:
        raise DataError(f"{path}: {size} bytes, the index says {expected}; remove the stage's folder and run again")


def _read_at(path: str, start: int, length: int) -> bytes:
    """`length` bytes from `start`, or what there is of them. Opening anew costs 3 microseconds a row."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.pread(descriptor, length, start)
        while len(content) < length and (more := os.pread(descriptor, length - len(content), start + len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)
