"""Shingle sets on disk, of the documents that are to be compared exactly.

    documents of a segment that are in a pair --write_shingles--> <name>.starts  <name>.shingles
    document number --ShingleSets--> its set

Invariant: what is in memory is bounded by CACHE_SHINGLES and one document, whatever is on disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.documents import from_line, read_lines
from groundup.corpus.duplicates.shingles import shingle_set, token_hashes
from groundup.corpus.segments import DOCUMENTS, Segment, read_items

CACHE_SHINGLES = 1 << 22
_OPEN_FILES = 64
PLACE = np.dtype([("start", "<u8"), ("count", "<u8")])
"""Where a document's set lies in its segment's file, in shingles."""


def write_shingles(segment: Segment, wanted: NDArray[np.bool_], shingle_tokens: int, target: Path) -> list[str]:
    """Write the sets of the wanted rows of a segment beside `target`; returns the names of the two files."""
    places = np.zeros(segment.rows, dtype=PLACE)
    written = 0
    with target.with_name(target.name + ".shingles").open("wb") as file:
        if wanted.any():
            for row, line in enumerate(read_lines(segment.folder / DOCUMENTS)):
                if wanted[row]:
                    shingles = shingle_set(token_hashes(from_line(line).text), shingle_tokens)
                    places[row] = (written, len(shingles))
                    file.write(shingles.tobytes())
                    written += len(shingles)
    places.tofile(target.with_name(target.name + ".starts"))
    return [f"{target.name}.starts", f"{target.name}.shingles"]


class ShingleSets:
    """Reads sets back; keeps the latest ones."""

    def __init__(self, segments: Sequence[Segment], targets: Sequence[Path]) -> None:
        self._firsts = np.array([segment.first for segment in segments], dtype=np.uint64)
        self._targets = targets
        self._sets: OrderedDict[int, NDArray[np.uint64]] = OrderedDict()
        self._cached = 0
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()

    def __enter__(self) -> ShingleSets:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def places(self, documents: NDArray[np.uint64]) -> NDArray[Any]:
        """Places (dtype PLACE) of the documents' sets, in the order asked for."""
        found = np.empty(len(documents), dtype=PLACE)
        owners = self._owners(documents)
        for owner in np.unique(owners).tolist():
            chosen = owners == owner
            rows = (documents[chosen] - self._firsts[owner]).astype(np.int64)
            path = self._targets[owner].with_name(self._targets[owner].name + ".starts")
            found[chosen] = read_items(path, PLACE, rows)
        return found

    def read(self, document: int, start: int, count: int) -> NDArray[np.uint64]:
        """The set of a document, whose place is given."""
        if document in self._sets:
            self._sets.move_to_end(document)
            return self._sets[document]
        owner = int(self._owners(np.array([document], dtype=np.uint64))[0])
        file = self._open(owner)
        file.seek(start * 8)
        shingles = np.frombuffer(file.read(count * 8), dtype="<u8")
        self._sets[document] = shingles
        self._cached += len(shingles)
        while self._cached > CACHE_SHINGLES and len(self._sets) > 2:
            self._cached -= len(self._sets.popitem(last=False)[1])
        return shingles

    def _owners(self, documents: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.searchsorted(self._firsts, documents, side="right") - 1

    def _open(self, owner: int) -> BinaryIO:
        if owner not in self._files:
            path = self._targets[owner].with_name(self._targets[owner].name + ".shingles")
            self._files[owner] = path.open("rb", buffering=0)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(owner)
        return self._files[owner]
