"""The rows of all parts as one table: what is known of every document while no text is in memory.

Invariant: row i of `rows` is the i-th document over all parts in order, and every other column tells of the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.documents import SPLITS
from groundup.corpus.parts import Part


@dataclass(frozen=True)
class Table:
    """The rows (dtype `parts.ROW`) of all parts, one after another, and where they belong."""

    rows: NDArray[Any]
    first_row: NDArray[np.int64]
    """Of each part, and the end of the last."""
    file: NDArray[np.int64]
    """Number of each row's file, counted over all parts."""
    group: NDArray[np.int64]
    """Row of the first piece of the text that a row is a piece of."""
    forced: NDArray[np.uint8]
    """Split code of the row's source, 0 for `auto`."""
    part: NDArray[np.int64]
    """Number of the row's part."""

    @classmethod
    def of(cls, parts: Sequence[Part], part_rows: Sequence[NDArray[Any]]) -> Table:
        """The table of finished parts and their rows."""
        lengths = [len(rows) for rows in part_rows]
        first_row = np.cumsum([0, *lengths])
        first_file = np.cumsum([0] + [len(part.files) for part in parts])[:-1]
        forced = np.array([(*SPLITS, "auto").index(part.source.split) + 1 for part in parts], dtype=np.uint8)
        rows = np.concatenate(part_rows)
        return cls(
            rows,
            first_row,
            rows["file"].astype(np.int64) + np.repeat(first_file, lengths),
            rows["group"].astype(np.int64) + np.repeat(first_row[:-1], lengths),
            np.repeat(forced % (len(SPLITS) + 1), lengths),
            np.repeat(np.arange(len(parts)), lengths),
        )
