"""Segments of the read documents: what is known of each document, in files that are read by document number.

    parts/<part>/<segment>/   documents.jsonl.zst  rows.bin  members.txt  signatures.bin  exact.run

A document's number over the whole corpus is its part's number and its row within the part, in one integer. Invariant:
numbers ascend in the order of sources, files and records, and every step's memory is bounded by one segment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEGMENT_BITS = 17
"""A segment has at most 2 ** this documents."""
_ROW_BITS = 40
_DENSE = 8
DOCUMENTS, ROWS, SIGNATURES = "documents.jsonl.zst", "rows.bin", "signatures.bin"
EXACT_RUN, CODES, MEMBERS = "exact.run", "codes.bin", "members.txt"
SEGMENT_FILES = (DOCUMENTS, ROWS, MEMBERS, SIGNATURES, EXACT_RUN)

ROW = np.dtype(
    [
        ("exact", "<u8", 2),
        ("content", "<u8", 2),
        ("number", "<u8"),
        ("group", "<u8"),
        ("file", "<u4"),
        ("text_bytes", "<u4"),
        ("characters", "<u4"),
        ("shingles", "<u4"),
        ("raw_bytes", "<u4"),
        ("member", "<u4"),
        ("copies", "<u4"),
        ("language", "<u2"),
        ("license", "<u2"),
        ("script", "u1"),
    ]
)
"""A document without its text: hash of normal form and of the text, record number and file (within the part), the row
(within the part) of the first piece of the text that it is a piece of, sizes before (`raw_bytes`) and after cleaning,
1 + where the name of its archive member begins in members.txt (0: none), further records of its part with the same raw
text, which have no rows, and its labels (`labels.py`)."""

MEMBER = np.dtype([("key", "<u8"), ("second", "<u8"), ("priority", "u1"), ("content", "<u8", 2), ("document", "<u8")])
"""A member of a group (key, second) with its rank in it: priority, then content hash, then document number."""


def document_number(part: int, row: int) -> int:
    """The number of a document over the whole corpus."""
    return part << _ROW_BITS | row


def part_number(document: int) -> int:
    """The part that a document is of."""
    return document >> _ROW_BITS


def segment_name(row: int) -> str:
    """Folder (within the part's) of the segment that holds a row."""
    return f"{row >> SEGMENT_BITS:05d}"


def rows_by_segment(rows: int) -> list[tuple[str, int, int]]:
    """(folder name, first row, number of rows) of each segment of a part with so many rows."""
    size = 1 << SEGMENT_BITS
    return [(segment_name(first), first, min(size, rows - first)) for first in range(0, rows, size)]


@dataclass(frozen=True)
class Segment:
    """One segment of a finished part."""

    folder: Path
    part: int
    first: int
    """Number of its first document."""
    rows: int
    priority: int
    """The side that its source is sent to: 0 wins over 1, and so on, where the same text is on both."""
    source: int = 0
    """Position of its source among the recipe's."""

    def read_rows(self) -> NDArray[Any]:
        """Its rows (dtype ROW)."""
        return np.fromfile(self.folder / ROWS, dtype=ROW)

    def count_copies(self, rows: NDArray[np.int64]) -> None:
        """Note one further record with the same raw text for each of the rows given (repeats count)."""
        values = self.read_rows()
        np.add.at(values["copies"], rows, 1)
        values.tofile(self.folder / ROWS)

    def read_signatures(self, num_perm: int) -> NDArray[np.uint16]:
        """Its signatures [rows, num_perm]."""
        return np.fromfile(self.folder / SIGNATURES, dtype="<u2").reshape(-1, num_perm)


@dataclass(frozen=True)
class Store:
    """All segments of a corpus, in order."""

    segments: tuple[Segment, ...]

    @cached_property
    def _firsts(self) -> NDArray[np.uint64]:
        return np.array([segment.first for segment in self.segments], dtype=np.uint64)

    def segment_with(self, document: int) -> Segment:
        """The segment that holds a document."""
        return self.segments[int(np.searchsorted(self._firsts, np.uint64(document), side="right")) - 1]

    @cached_property
    def _sources(self) -> NDArray[np.int64]:
        return np.array([segment.source for segment in self.segments], dtype=np.int64)

    def sources(self, documents: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Position of each document's source among the recipe's."""
        return self._sources[np.searchsorted(self._firsts, documents, side="right") - 1]

    def rows(self, documents: NDArray[np.uint64]) -> NDArray[Any]:
        """The rows (dtype ROW) of some documents, in the order asked for."""
        return self._gather(documents, ROWS, ROW)

    def signatures(self, documents: NDArray[np.uint64], num_perm: int) -> NDArray[np.uint16]:
        """Signatures [documents, num_perm] of some documents, in the order asked for."""
        return self._gather(documents, SIGNATURES, np.dtype(("<u2", (num_perm,))))

    def member_names(self, documents: NDArray[np.uint64], rows: NDArray[Any]) -> list[str]:
        """Names of the archive members that documents, of which these are the rows, are of; "" for none."""
        names = [""] * len(documents)
        inside = np.flatnonzero(rows["member"] > 0)
        for segment, chosen in self._by_segment(documents[inside]):
            with (segment.folder / MEMBERS).open("rb") as file:
                for position in inside[chosen].tolist():
                    file.seek(int(rows["member"][position]) - 1)
                    names[position] = file.readline().decode().removesuffix("\n")
        return names

    def members(self, keys: NDArray[np.uint64], documents: NDArray[np.uint64]) -> NDArray[Any]:
        """Documents as members (dtype MEMBER) of the groups `keys`."""
        made = np.zeros(len(documents), dtype=MEMBER)
        made["key"], made["document"] = keys, documents
        made["content"] = self.rows(documents)["content"]
        for segment, chosen in self._by_segment(documents):
            made["priority"][chosen] = segment.priority
        return made

    def _gather(self, documents: NDArray[np.uint64], name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        gathered = np.empty((len(documents), *dtype.shape), dtype=dtype.base)
        for segment, chosen in self._by_segment(documents):
            rows = (documents[chosen] - np.uint64(segment.first)).astype(np.int64)
            gathered[chosen] = read_items(segment.folder / name, dtype, rows)
        return gathered

    def _by_segment(self, documents: NDArray[np.uint64]) -> Iterator[tuple[Segment, NDArray[np.int64]]]:
        """Each segment that holds some of the documents, with the positions of these."""
        owners = np.searchsorted(self._firsts, documents, side="right") - 1
        order = np.argsort(owners, kind="stable")
        borders = np.flatnonzero(np.diff(owners[order], prepend=-1))
        for start, stop in zip(borders, [*borders[1:], len(order)]):
            yield self.segments[owners[order[start]]], order[start:stop]


def read_items(path: Path, dtype: np.dtype[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
    """Records of a fixed size by their positions in a file: the file at once where many are wanted, else one by one."""
    count = path.stat().st_size // dtype.itemsize
    if len(positions) * _DENSE > count:
        found: NDArray[Any] = np.fromfile(path, dtype=dtype)[positions]
        return found
    with path.open("rb", buffering=0) as file:
        data = b"".join(
            os.pread(file.fileno(), dtype.itemsize, position * dtype.itemsize) for position in positions.tolist()
        )
    return np.frombuffer(data, dtype=dtype)


def borders_of_groups(*sorted_columns: NDArray[Any]) -> NDArray[np.int64]:
    """Where groups of equal rows start in columns that are sorted together, with the end behind the last."""
    length = len(sorted_columns[0])
    differs = np.zeros(length, dtype=bool)
    differs[:1] = True
    for column in sorted_columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.append(np.flatnonzero(differs), length)
