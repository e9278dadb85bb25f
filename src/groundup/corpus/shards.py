"""A segment's documents and their split codes -> compressed shards, one a split (more above SHARD_BYTES).

Invariant: the bytes of a shard depend on the segment and the codes only.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from groundup.corpus.closing import finish, finished
from groundup.corpus.documents import SPLITS, LineWriter, read_lines
from groundup.corpus.segments import CODES, DOCUMENTS, Segment

SHARD_BYTES = 64 << 20
SHARDED = "shards.json"


def write_shards(segment: Segment) -> dict[str, Any]:
    """Sort a segment's documents into shards by `codes.bin`, unless that is done.

    Returns the closing file; key `shards`: a list of {split, name, documents, bytes}.
    """
    done = finished(segment.folder, SHARDED)
    if done:
        return done
    codes = np.fromfile(segment.folder / CODES, dtype=np.uint8)
    with _ShardWriters(segment.folder) as writers:
        for code, line in zip(codes.tolist(), read_lines(segment.folder / DOCUMENTS), strict=True):
            if code:
                writers.write(SPLITS[code - 1], line)
    shards = writers.written
    return finish(segment.folder, SHARDED, {"shards": shards}, (CODES, *(shard["name"] for shard in shards)))


class _ShardWriters:
    """One open file a split; a full one is closed and followed by the next."""

    def __init__(self, folder: Path) -> None:
        self.written: list[dict[str, Any]] = []
        self._folder = folder
        self._open: dict[str, tuple[LineWriter, dict[str, Any]]] = {}

    def __enter__(self) -> _ShardWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer, _ in self._open.values():
            writer.__exit__(kind, value, trace)
        self.written.sort(key=lambda shard: str(shard["name"]))

    def write(self, split: str, line: bytes) -> None:
        """Append a document's line to the current shard of `split`."""
        if split not in self._open:
            number = sum(shard["split"] == split for shard in self.written)
            shard: dict[str, Any] = {"split": split, "name": f"{split}-{number:05d}.zst", "documents": 0, "bytes": 0}
            self.written.append(shard)
            self._open[split] = LineWriter(self._folder / shard["name"]), shard
        writer, shard = self._open[split]
        writer.write(line)
        shard["documents"] += 1
        shard["bytes"] += len(line)
        if shard["bytes"] >= SHARD_BYTES:
            writer.close()
            del self._open[split]
