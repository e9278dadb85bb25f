"""Datasets made of datasets: several read as one, and an even selection from one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from groundup.tokens.packing import Row, Rows


class JoinedRows:
    """The rows of several datasets, one dataset after the other."""

    def __init__(self, name: str, parts: Sequence[Rows]) -> None:
        self.name = name
        self.parts = list(parts)
        self._ends = list(accumulate(part.num_rows for part in self.parts))
        self.num_rows = self._ends[-1]
        self.context_length = self.parts[0].context_length

    def row(self, index: int) -> Row:
        """Row `index`, 0 <= index < num_rows."""
        part = bisect_right(self._ends, index)
        return self.parts[part].row(index - (self._ends[part - 1] if part else 0))


class SelectedRows:
    """At most `limit` rows of a dataset, evenly spaced over it (all of them when it has no more)."""

    def __init__(self, rows: Rows, limit: int) -> None:
        self._rows = rows
        self.name = rows.name
        self.num_rows = min(limit, rows.num_rows)
        self.context_length = rows.context_length

    def row(self, index: int) -> Row:
        """Row `index` of the selection."""
        return self._rows.row(index * self._rows.num_rows // self.num_rows)
