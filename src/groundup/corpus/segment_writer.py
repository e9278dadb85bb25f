"""Cleaned documents -> segments: the documents, and of each its row, its signature and its record among exact hashes.

Invariant: a segment's bytes depend on its documents and the config only; memory is bounded by one segment's rows.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.corpus import segments
from groundup.corpus.documents import Document, LineWriter, hash_text, record_number, to_line
from groundup.corpus.runs import RunWriter
from groundup.corpus.segments import DOCUMENTS, EXACT_RUN, MEMBER, ROW, ROWS, SIGNATURES, document_number, segment_name
from groundup.corpus.shingles import normal_hash
from groundup.corpus.signatures import DeduplicateConfig, Signer

_BATCH_SHINGLES = 1 << 19
_BATCH_ROWS = 2048


class SegmentWriter:
    """Takes a part's documents in order; every 2 ** SEGMENT_BITS of them a new segment begins."""

    def __init__(self, folder: Path, part: int, priority: int, config: DeduplicateConfig) -> None:
        self.rows_written = 0
        self._folder, self._part, self._priority = folder, part, priority
        self._signer = Signer(config) if config.near else None
        self._rows: list[tuple[Any, ...]] = []
        self._open: tuple[LineWriter, BinaryIO, BinaryIO, RunWriter] | None = None

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._open:
            self._flush()
        self._close(kind, value, trace)

    def write(self, document: Document, tokens: NDArray[np.uint64], file: int, group: int) -> None:
        """Add a document: its token hashes, its file's position in the part, the row of its text's first piece."""
        if self._open is None:
            self._begin()
        assert self._open is not None
        data = document.text.encode()
        self._open[0].write(to_line(document))
        shingles = self._signer.add(tokens) if self._signer else 0
        hashes = (_two_words(normal_hash(document.text)), _two_words(hash_text(data)))
        place = (record_number(document), group, file)
        self._rows.append((*hashes, *place, len(data), len(document.text), shingles))
        self.rows_written += 1
        pending = self._signer.pending_shingles if self._signer else 0
        full = self.rows_written % (1 << segments.SEGMENT_BITS) == 0
        if full or pending >= _BATCH_SHINGLES or len(self._rows) >= _BATCH_ROWS:
            self._flush()
        if full:
            self._close(None, None, None)

    def _begin(self) -> None:
        folder = self._folder / segment_name(self.rows_written)
        folder.mkdir()
        self._open = (
            LineWriter(folder / DOCUMENTS, level=1),
            (folder / ROWS).open("wb"),
            (folder / SIGNATURES).open("wb"),
            RunWriter(folder / EXACT_RUN, MEMBER),
        )

    def _flush(self) -> None:
        assert self._open is not None
        _, row_file, signature_file, exact = self._open
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
