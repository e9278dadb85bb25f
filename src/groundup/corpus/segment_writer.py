"""Cleaned documents -> segments: the documents, and of each its row, its signature and its record among exact hashes.

Invariant: a segment's bytes depend on its documents and the config only; memory is bounded by one segment's rows.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.corpus import segments
from groundup.corpus.documents import Document, LineWriter, hash_text, record_number, to_line
from groundup.corpus.duplicates.runs import RunWriter
from groundup.corpus.duplicates.shingles import normal_hash
from groundup.corpus.duplicates.signatures import DeduplicateConfig, Signer
from groundup.corpus.segments import (
    DOCUMENTS,
    EXACT_RUN,
    MEMBER,
    MEMBERS,
    ROW,
    ROWS,
    SIGNATURES,
    document_number,
    segment_name,
)

_BATCH_SHINGLES = 1 << 19
_BATCH_ROWS = 2048


@dataclass(slots=True)
class Origin:
    """Where a document comes from and what is counted of it."""

    file: int
    """Its file's position in the part."""
    group: int
    """Row of its text's first piece."""
    member: str = ""
    """Name of the archive member."""
    raw_bytes: int = 0
    """Its text before cleaning, in UTF-8."""
    language: int = 0
    license: int = 0
    script: int = 0


class SegmentWriter:
    """Takes a part's documents in order; every 2 ** SEGMENT_BITS of them a new segment begins."""

    def __init__(self, folder: Path, part: int, priority: int, config: DeduplicateConfig) -> None:
        self.rows_written = 0
        self._folder, self._part, self._priority = folder, part, priority
        self._signer = Signer(config) if config.near else None
        self._rows: list[tuple[Any, ...]] = []
        self._open: tuple[LineWriter, BinaryIO, BinaryIO, BinaryIO, RunWriter] | None = None
        self._member, self._member_place = "", 0

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._open:
            self._flush()
        self._close(kind, value, trace)

    def write(self, document: Document, tokens: NDArray[np.uint64], origin: Origin) -> None:
        """Add a document with its token hashes."""
        if self._open is None:
            self._begin()
        assert self._open is not None
        data = document.text.encode()
        self._open[0].write(to_line(document))
        shingles = self._signer.add(tokens) if self._signer else 0
        hashes = (_two_words(normal_hash(document.text)), _two_words(hash_text(data)))
        place = (record_number(document), origin.group, origin.file)
        labels = (origin.language, origin.license, origin.script)
        sizes = (len(data), len(document.text), shingles, origin.raw_bytes)
        self._rows.append((*hashes, *place, *sizes, self._place_of(origin.member), 0, *labels))
        self.rows_written += 1
        pending = self._signer.pending_shingles if self._signer else 0
        full = self.rows_written % (1 << segments.SEGMENT_BITS) == 0
        if full or pending >= _BATCH_SHINGLES or len(self._rows) >= _BATCH_ROWS:
            self._flush()
        if full:
            self._close(None, None, None)

    def _place_of(self, member: str) -> int:
        """1 + where the member's name begins in the segment's list; written once for documents in a row."""
        if member and member != self._member:
            assert self._open is not None
            self._member, self._member_place = member, 1 + self._open[2].tell()
            self._open[2].write(f"{member}\n".encode())
        return self._member_place if member else 0

    def _begin(self) -> None:
        self._member = ""
        folder = self._folder / segment_name(self.rows_written)
        folder.mkdir()
        self._open = (
            LineWriter(folder / DOCUMENTS, level=1),
            (folder / ROWS).open("wb"),
            (folder / MEMBERS).open("wb"),
            (folder / SIGNATURES).open("wb"),
            RunWriter(folder / EXACT_RUN, MEMBER),
        )

    def _flush(self) -> None:
        assert self._open is not None
        _, row_file, _, signature_file, exact = self._open
        rows = np.array(self._rows, dtype=ROW)
        row_file.write(rows.tobytes())
        if self._signer:
            signature_file.write(self._signer.take().astype("<u2").tobytes())
        first = document_number(self._part, self.rows_written - len(rows))
        exact.write_columns(
            key=rows["exact"][:, 0],
            second=rows["exact"][:, 1],
            priority=np.full(len(rows), self._priority, dtype=np.uint8),
            content=rows["content"],
            document=np.arange(first, first + len(rows), dtype=np.uint64),
        )
        self._rows = []

    def _close(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            stack = ExitStack()
            for file in self._open:
                stack.push(file)
            self._open = None
            stack.__exit__(kind, value, trace)  # all of them, also where closing one fails


def _two_words(hash_bytes: bytes) -> tuple[int, int]:
    first, second = struct.unpack(">QQ", hash_bytes)
    return first, second
