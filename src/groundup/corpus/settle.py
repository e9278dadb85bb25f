"""Duplicates -> what is counted of each segment, and the split of each of its documents.

    duplicates + rows --tally--> outcomes per file, samples, histograms of what is kept, draws of its texts
    all draws --------assign_codes--> codes.bin: 0 nowhere, else 1 + position in SPLITS; sizes of the splits

Pieces of one text go to one side, by the lowest hash of those that are kept, also where a segment ends within the text.
Invariant: each function sees one segment, and what it returns is of a size that does not depend on its documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.accounts.account import SAMPLE_LIMIT
from groundup.corpus.accounts.histograms import Histograms, count_numbers, histograms_of
from groundup.corpus.documents import SPLITS
from groundup.corpus.duplicates.deduplicate import EXACT, KEPT, NEAR, Duplicates
from groundup.corpus.segments import CODES, Segment, borders_of_groups
from groundup.corpus.split import Drawn, SplitConfig, assign

_NONE = np.iinfo(np.uint64).max
_OUTCOMES = {"kept": KEPT, "exact": EXACT, "near": NEAR}


@dataclass(frozen=True)
class Settling:
    """A segment and what decides about its documents."""

    segment: Segment
    duplicates: Duplicates
    split: SplitConfig
    forced: int
    """Split code of its source, 0 for `auto`."""
    samples: int = SAMPLE_LIMIT
    """Examples wanted of each kind of duplicate."""
    moved: Mapping[int, int] | None = None
    """Draws that go to a split that would be empty."""
    keys: Mapping[int, int] | None = None
    """Keys of the texts that it shares with other segments, by the row (within the part) of their first piece."""


@dataclass(frozen=True)
class Tally:
    """What is counted of a segment."""

    files: dict[int, dict[str, tuple[int, int]]]
    """(documents, bytes of raw text) `kept`, `exact` and `near` of each file (by its position in the part)."""
    samples: dict[str, list[tuple[int, int]]]
    """The first (document, document kept for it) for `exact` and `near`."""
    drawn: Drawn
    """Draws of the texts that lie wholly in the segment."""
    shared: dict[int, int]
    """Keys so far of the first and the last text, which may go on in other segments, by their first piece's row."""
    histograms: Histograms = field(default_factory=dict)
    """Of the kept documents."""


def tally(task: Settling) -> Tally:
    """Count a segment's outcomes."""
    rows = task.segment.read_rows()
    outcome, kept = task.duplicates.of(task.segment)
    files = _by_file(rows, outcome)
    histograms = histograms_of(rows[outcome == KEPT])
    samples = {}
    for name in ("exact", "near"):
        first = np.flatnonzero(outcome == _OUTCOMES[name])[: task.samples]
        samples[name] = [(task.segment.first + row, int(kept[row])) for row in first.tolist()]
    if task.forced:
        return Tally(files, samples, Drawn(), {}, histograms)
    groups, keys = _text_keys(rows, outcome)
    inner = keys[1:-1]
    shared = {int(groups[i]): int(keys[i]) for i in {0, len(groups) - 1}}
    return Tally(files, samples, Drawn.of(inner[inner != _NONE], task.split), shared, histograms)


def _by_file(rows: NDArray[Any], outcome: NDArray[np.uint8]) -> dict[int, dict[str, tuple[int, int]]]:
    """file -> outcome -> (documents, bytes of raw text)."""
    found, owners = np.unique(rows["file"], return_inverse=True)
    size = len(_OUTCOMES) * len(found)
    documents, size_bytes = count_numbers(owners * len(_OUTCOMES) + outcome, rows["raw_bytes"], size)
    return {
        file: {
            name: (documents[len(_OUTCOMES) * i + code], size_bytes[len(_OUTCOMES) * i + code])
            for name, code in _OUTCOMES.items()
        }
        for i, file in enumerate(found.tolist())
    }


def _text_keys(rows: NDArray[Any], outcome: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(first piece's row, lowest hash of the kept pieces) of each text of a segment."""
    starts = borders_of_groups(rows["group"])[:-1]
    hashes = np.where(outcome == KEPT, rows["content"][:, 0], np.uint64(_NONE))
    return rows["group"][starts], np.minimum.reduceat(hashes, starts)


def with_draws(tasks: Sequence[Settling], tallies: Sequence[Tally]) -> list[Settling]:
    """The tasks with what only all tallies together tell: keys of shared texts, and draws that go to an empty split."""
    shared: dict[tuple[int, int], int] = {}
    for task, counted in zip(tasks, tallies):
        for row, key in counted.shared.items():
            text = (task.segment.part, row)
            shared[text] = min(key, shared.get(text, _NONE))
    keys = np.array([key for key in shared.values() if key != _NONE], dtype=np.uint64)
    drawn = [counted.drawn for counted in tallies]
    moved = {split: Drawn.together([*drawn, Drawn.of(keys, split)]).moved(split) for split in {t.split for t in tasks}}
    made = []
    for task, counted in zip(tasks, tallies):
        mine = {row: shared[task.segment.part, row] for row in counted.shared}
        made.append(replace(task, moved=moved[task.split], keys=mine))
    return made


def assign_codes(task: Settling) -> dict[str, dict[str, int]]:
    """Write codes.bin of a segment; returns documents, characters and UTF-8 bytes of text in each split."""
    rows = task.segment.read_rows()
    outcome, _ = task.duplicates.of(task.segment)
    codes = np.where(outcome == KEPT, task.forced, 0).astype(np.uint8)
    if not task.forced:
        groups, keys = _text_keys(rows, outcome)
        for i in {0, len(groups) - 1}:
            keys[i] = (task.keys or {})[int(groups[i])]
        lengths = np.diff(borders_of_groups(rows["group"]))
        codes = np.where(outcome == KEPT, np.repeat(assign(keys, task.split, task.moved), lengths), 0).astype(np.uint8)
    codes.tofile(task.segment.folder / CODES)
    return {name: _size(rows[codes == code]) for code, name in enumerate(SPLITS, 1)}


def _size(rows: NDArray[Any]) -> dict[str, int]:
    characters, size_bytes = (int(rows[field].sum(dtype=np.int64)) for field in ("characters", "text_bytes"))
    return {"documents": len(rows), "characters": characters, "bytes": size_bytes}
