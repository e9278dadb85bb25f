"""The set of lines that are frequent in the corpus, as a sorted file that every worker maps into memory.

Invariant: asking costs no more memory than the pages that the questions touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FREQUENT_LINE = np.dtype([("line", "<u8"), ("keeper", "<u8")])
"""Hash of a frequent line and of the one document that may keep it."""


@dataclass(frozen=True)
class FrequentLines:
    """Common lines, sorted by hash, in the file `path`. `keep_one`: the keeper's copy stays."""

    path: Path
    keep_one: bool

    @cached_property
    def _rows(self) -> NDArray[Any]:
        size = self.path.stat().st_size
        return np.memmap(self.path, dtype=FREQUENT_LINE, mode="r") if size else np.zeros(0, dtype=FREQUENT_LINE)

    def contain(self, line_hashes: Sequence[int], document: int) -> list[bool]:
        """Whether each line is to be removed from the document with this hash."""
        if not line_hashes or not len(self._rows):
            return [False] * len(line_hashes)
        wanted = np.array(line_hashes, dtype=np.uint64)
        places = np.minimum(np.searchsorted(self._rows["line"], wanted), len(self._rows) - 1)
        found = self._rows["line"][places] == wanted
        if self.keep_one:
            found &= self._rows["keeper"][places] != document
        return [bool(value) for value in found]
