"""Records on disk in sorted runs, read back by key: how any number of documents meet in bounded memory.

    records --RunWriter--> file of runs, each of at most RUN_RECORDS records sorted by their field `key`
    files   --ranges-----> ranges of keys --pieces--> all records with these keys, in arrays that fit in memory

It is the shuffle of map-reduce: every step of deduplication is a function from a range of keys to records under other
keys. A file whose name ends in SORTED is one run, however long. Invariant: what is in memory is bounded by RUN_RECORDS,
however many records there are and even if all have the same key; a file that is there is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

RUN_RECORDS = 1 << 20
SORTED = ".sorted"
KEYS = 1 << 64
"""Keys are below this."""


class RunWriter:
    """Takes records (a field `key` first) in any order; `close` gives the file its name, so a file there is whole."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.records = path, 0
        self._dtype = dtype
        self._temporary = path.with_name(path.name + ".tmp")
        self._file = self._temporary.open("wb")
        self._pending: list[NDArray[Any]] = []
        self._count = 0

    def write(self, records: NDArray[Any]) -> None:
        """Add records of the writer's type."""
        self.records += len(records)
        while self._count + len(records) >= RUN_RECORDS:
            room = RUN_RECORDS - self._count
            self._pending.append(records[:room])
            self._flush()
            records = records[room:]
        if len(records):
            self._pending.append(records.copy())
            self._count += len(records)

    def write_columns(self, **columns: NDArray[Any]) -> None:
        """Add records given by their fields, arrays of one length."""
        records = np.empty(len(columns["key"]), dtype=self._dtype)
        for name, values in columns.items():
            records[name] = values
        self.write(records)

    def _flush(self) -> None:
        together = np.concatenate(self._pending)
        self._file.write(together[np.argsort(together["key"], kind="stable")].tobytes())
        self._pending, self._count = [], 0

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            self._flush()
        self._file.close()
        if kind is None:
            os.replace(self._temporary, self.path)
        else:
            self._temporary.unlink(missing_ok=True)


def count_records(paths: Sequence[Path], dtype: np.dtype[Any]) -> int:
    """Records in all of the files."""
    return sum(path.stat().st_size for path in paths) // dtype.itemsize


def even_ranges(records: int) -> list[tuple[int, int]]:
    """[low, high) ranges of evenly spread keys with about half of RUN_RECORDS each, so that few of them overflow."""
    count = max(1, -(-2 * records // RUN_RECORDS))
    borders = [KEYS * i // count for i in range(count + 1)]
    return list(pairwise(borders))


@dataclass(frozen=True)
class KeyRange:
    """Where in some files the records with low <= key < high lie: slices (file, start, stop), each in one run."""

    paths: Sequence[Path]
    dtype: np.dtype[Any]
    low: int
    high: int
    slices: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, paths: Sequence[Path], dtype: np.dtype[Any], low: int = 0, high: int = KEYS) -> KeyRange:
        """The range over whole files, narrowed to the keys that are wanted."""
        slices = []
        for number, path in enumerate(paths):
            count = path.stat().st_size // dtype.itemsize
            run = max(1, count) if path.suffix == SORTED else RUN_RECORDS
            slices += [(number, first, min(first + run, count)) for first in range(0, count, run)]
        return cls(paths, dtype, 0, KEYS, tuple(slices))._narrowed(low, high)

    def _narrowed(self, low: int, high: int) -> KeyRange:
        found = []
        for number, pieces in groupby(self.slices, key=itemgetter(0)):
            with self.paths[number].open("rb", buffering=0) as file:
                for _, start, stop in pieces:
                    first = start if low <= self.low else self._bisect(file.fileno(), start, stop, low)
                    last = stop if high >= self.high else self._bisect(file.fileno(), first, stop, high)
                    if last > first:
                        found.append((number, first, last))
        return KeyRange(self.paths, self.dtype, max(low, self.low), min(high, self.high), tuple(found))

    def _bisect(self, descriptor: int, start: int, stop: int, key: int) -> int:
        """First record of a sorted slice whose key is not below `key`."""
        while start < stop:
            middle = (start + stop) // 2
            found = os.pread(descriptor, 8, middle * self.dtype.itemsize)
            if int.from_bytes(found, "little") < key:
                start = middle + 1
            else:
                stop = middle
        return start

    @property
    def records(self) -> int:
        """How many records the range holds."""
        return sum(stop - start for _, start, stop in self.slices)

    @property
    def fits(self) -> bool:
        """Whether `pieces` gives it in one array."""
        return self.records <= RUN_RECORDS

    def bounded(self) -> Iterator[KeyRange]:
        """This range in ranges of at most RUN_RECORDS records, or of one key where that has more."""
        if self.fits or self.high - self.low <= 1:
            if self.slices:
                yield self
            return
        middle = (self.low + self.high) // 2
        for low, high in ((self.low, middle), (middle, self.high)):
            yield from self._narrowed(low, high).bounded()

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The records: all in one array where they fit, else slice by slice. May be called again."""
        if self.fits:
            parts = [self._read(piece) for piece in self.slices]
            yield np.concatenate(parts) if parts else np.zeros(0, dtype=self.dtype)
        else:
            for number, start, stop in self.slices:
                for first in range(start, stop, RUN_RECORDS):
                    yield self._read((number, first, min(first + RUN_RECORDS, stop)))

    def _read(self, piece: tuple[int, int, int]) -> NDArray[Any]:
        number, start, stop = piece
        return np.fromfile(self.paths[number], self.dtype, stop - start, offset=start * self.dtype.itemsize)
