"""Which lines stand in many documents: a pass over the raw text before it is cleaned, with bounded memory.

    parts --count_lines (workers)--> sorted runs of (line, document) hashes --> by range of line hashes: merged, counted
          --> frequent.bin: (line, keeper) of the lines that enough different documents hold

Documents are told apart by their text, so copies of one document count as one. Memory: RUN_ENTRIES * 16 bytes in a
worker, and about MERGE_BYTES here, whatever the size of the corpus; disk: 16 bytes for each line of the corpus.

Invariant: the result depends on the set of documents only, not on their order, files, parts or workers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup import stage
from groundup.corpus.clean import Cleaner, Dropped
from groundup.corpus.clean.frequent import FREQUENT_LINE, FrequentLines
from groundup.corpus.clean.lines import LinesConfig, document_hash, is_long_enough, line_hash
from groundup.corpus.parts import Part, finish, finished
from groundup.corpus.readers import Reading, Rejected

RUN_ENTRIES = 1 << 20
MERGE_BYTES = 64 << 20
LINES = "lines"
"""Folder, beside the parts, of the runs and of the frequent lines."""
_COUNTED = "lines.json"
_FREQUENT = "frequent.bin"
_ENTRY = np.dtype([("line", "<u8"), ("document", "<u8")])


def count_lines(part: Part) -> dict[str, Any]:
    """Write the sorted runs of a part, unless that is done; returns its closing file (`runs`: names of the files)."""
    folder = _folder(part)
    done = finished(folder, _COUNTED)
    if done:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    runs: list[str] = []
    lines, owners = array("Q"), array("Q")
    for owner, hashes in _documents(part, folder):
        lines.extend(hashes)
        owners.extend([owner] * len(hashes))
        if len(lines) >= RUN_ENTRIES:
            runs.append(_write_run(folder, len(runs), lines, owners))
            lines, owners = array("Q"), array("Q")
    runs.append(_write_run(folder, len(runs), lines, owners))
    return finish(folder, _COUNTED, {"runs": runs}, runs)


def _folder(part: Part) -> Path:
    return part.parts_folder / LINES / part.folder.name


def _documents(part: Part, folder: Path) -> Iterator[tuple[int, set[int]]]:
    """Hash of each document as the rule will see it, and the hashes of its different lines."""
    cleaner = Cleaner(part.clean, part.resources)
    min_characters = (part.clean.repeated_lines or LinesConfig()).min_characters
    for file in part.files:
        for record in Reading(file, part.source, folder):
            cleaned = Dropped("") if isinstance(record, Rejected) else cleaner.clean_up_to(record, "repeated lines")
            if isinstance(cleaned, Dropped):
                continue
            lines = cleaned.text.split("\n")
            yield (
                document_hash(cleaned.text),
                {line_hash(line) for line in lines if is_long_enough(line, min_characters)},
            )


def _write_run(folder: Path, number: int, lines: array[int], owners: array[int]) -> str:
    name = f"run-{number:05d}.bin"
    entries = np.empty(len(lines), dtype=_ENTRY)
    entries["line"], entries["document"] = lines, owners
    np.sort(entries, order=("line", "document")).tofile(folder / name)
    return name


def find_frequent_lines(parts: Sequence[Part], counted: Sequence[dict[str, Any]]) -> tuple[FrequentLines, str]:
    """The lines that enough documents hold, and a hash of them."""
    target = parts[0].parts_folder / LINES / _FREQUENT
    settings = parts[0].clean.repeated_lines or LinesConfig()
    runs = [
        np.memmap(path, dtype=_ENTRY, mode="r")
        for part, result in zip(parts, counted)
        for path in (_folder(part) / name for name in result["runs"])
        if path.stat().st_size
    ]
    total_bytes = sum(run.nbytes for run in runs)
    ranges = max(1, -(-total_bytes // MERGE_BYTES))
    bounds = [number * (1 << 64) // ranges for number in range(1, ranges)]
    places = [np.searchsorted(run["line"], np.array(bounds, dtype=np.uint64)).tolist() for run in runs]
    with target.open("wb") as file:
        for number in range(ranges):
            slices = [run[([0, *cuts])[number] : ([*cuts, len(run)])[number]] for run, cuts in zip(runs, places)]
            _frequent_of(slices, settings.across_documents).tofile(file)
    return FrequentLines(target, settings.keep_one), stage.hash_file(target)


def _frequent_of(slices: Sequence[NDArray[Any]], at_least: int) -> NDArray[Any]:
    """Lines of these entries that at least so many different documents hold, each with the smallest document hash."""
    entries = np.unique(np.concatenate(slices)) if slices else np.zeros(0, dtype=_ENTRY)
    if not len(entries):
        return np.zeros(0, dtype=FREQUENT_LINE)
    starts = np.flatnonzero(np.concatenate(([True], entries["line"][1:] != entries["line"][:-1])))
    counts = np.diff(starts, append=len(entries))
    first = entries[starts[counts >= at_least]]
    frequent = np.empty(len(first), dtype=FREQUENT_LINE)
    frequent["line"], frequent["keeper"] = first["line"], first["document"]
    return frequent
