"""Rows of kept documents -> how many there are, and how many bytes of text, by length, script, language and licence.

    rows of a segment --histograms_of--> by number --Named.add--> by name, over all segments of a source --to_json-->

Invariant: every histogram of a source has all of its kept documents and their bytes, so each adds up to the account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.accounts.labels import OTHER
from groundup.corpus.accounts.scripts import SCRIPTS

Histograms = dict[str, NDArray[np.int64]]
"""Kind of histogram -> rows of (number of a bin, documents, UTF-8 bytes of their cleaned text), as small as they go."""
KINDS = ("lengths", "scripts", "languages", "licenses")
NAMES_SHOWN = 200
_COLUMNS = {"scripts": "script", "languages": "language", "licenses": "license"}


def histograms_of(rows: NDArray[Any]) -> Histograms:
    """Of some rows (dtype ROW). A bin of `lengths` is a number of bits: 5 for 16 to 31 characters."""
    numbers = {kind: rows[column].astype(np.int64) for kind, column in _COLUMNS.items()}
    numbers["lengths"] = np.frexp(rows["characters"].astype(np.float64))[1].astype(np.int64)
    found: Histograms = {}
    for kind in KINDS:
        bins = np.array(count_numbers(numbers[kind], rows["text_bytes"]), dtype=np.int64)
        filled = np.flatnonzero(bins[0])
        found[kind] = np.stack([filled, *bins[:, filled]], axis=1)
    return found


def count_numbers(numbers: NDArray[np.int64], sizes: NDArray[Any], count: int = 0) -> tuple[list[int], list[int]]:
    """(how often each number from 0 on is there, the sum of its sizes), for at least `count` numbers."""
    often = np.bincount(numbers, minlength=count)
    sums = np.bincount(numbers, weights=sizes, minlength=count)  # exact: float64 counts to 2^53
    return often.tolist(), [int(size) for size in sums]


def length_name(bits: int) -> str:
    """Numbers of characters that have so many bits: 5 -> "16-31"."""
    return str(bits) if bits < 2 else f"{1 << (bits - 1)}-{(1 << bits) - 1}"


@dataclass
class Named:
    """Histograms of a source, by name."""

    documents: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    bytes: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})

    def add(self, found: Histograms, labels: Mapping[str, Sequence[str]]) -> None:
        """Those of one segment, with the names of its part's labels."""
        for kind, bins in found.items():
            names = SCRIPTS if kind == "scripts" else labels.get(kind)
            for number, documents, size_bytes in bins.tolist():
                name = names[number] if names else length_name(number)
                self.documents[kind][name] += documents
                self.bytes[kind][name] += size_bytes

    def add_all(self, other: Named) -> None:
        """Those of another source."""
        for kind in KINDS:
            self.documents[kind].update(other.documents[kind])
            self.bytes[kind].update(other.bytes[kind])

    def check(self, documents: int, size_bytes: int, what: str) -> None:
        """Raise AssertionError, naming `what`, when a histogram does not have all documents and bytes."""
        for kind in KINDS:
            if (self.documents[kind].total(), self.bytes[kind].total()) != (documents, size_bytes):
                raise AssertionError(f"the {kind} of {what} do not add up to {documents} documents, {size_bytes} bytes")

    def to_json(self) -> dict[str, dict[str, dict[str, int]]]:
        """kind -> name -> {documents, bytes}: lengths ascending, others by documents; rare names together as OTHER."""
        return {kind: self._bins(kind) for kind in KINDS}

    def _bins(self, kind: str) -> dict[str, dict[str, int]]:
        documents, size_bytes = self.documents[kind], self.bytes[kind]
        if kind == "lengths":
            names = sorted(documents, key=lambda name: int(name.partition("-")[0]))
        else:
            names = sorted(documents, key=lambda name: (-documents[name], name))
        shown = [name for name in names[:NAMES_SHOWN] if name != OTHER]
        bins = {name: {"documents": documents[name], "bytes": size_bytes[name]} for name in shown}
        rest = {
            "documents": documents.total() - sum(one["documents"] for one in bins.values()),
            "bytes": size_bytes.total() - sum(one["bytes"] for one in bins.values()),
        }
        return {**bins, OTHER: rest} if rest["documents"] else bins
