"""Which lines stand in many documents: a pass over the raw text before it is cleaned, with bounded memory.

    parts --collect_lines (workers)--> sorted runs of (line, document) hashes
          --count_lines (workers, each a range of line hashes)--> (line, keeper) of the lines that enough documents hold
          --in order of the ranges--> frequent.bin

Documents are told apart by their text, so copies of one document count as one. Memory: a few arrays of
runs.RUN_RECORDS records (16 bytes each), whatever the size of the corpus; disk: 16 bytes for each line of the corpus,
until the lines are counted.

Invariant: the result depends on the set of documents only, not on their order, files, parts or workers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.config import digest
from groundup.corpus.clean import Cleaner, Dropped
from groundup.corpus.clean.frequent import FREQUENT_LINE, FrequentLines
from groundup.corpus.clean.lines import LinesConfig, document_hash, is_long_enough, line_hash
from groundup.corpus.closing import finish, finished
from groundup.corpus.duplicates.runs import KeyRange, RunWriter, count_records, even_ranges
from groundup.corpus.engines.engine import Engine
from groundup.corpus.parts import Part, with_resources
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.segments import borders_of_groups
from groundup.log import progress

_RUN, _COLLECTED = "lines.run", "lines.json"
_FREQUENT, _COUNTED = "frequent.bin", "frequent.json"
_BATCH_LINES = 1 << 10
_ENTRY = np.dtype([("key", "<u8"), ("document", "<u8")])
"""A line and a document that holds it."""


def with_frequent_lines(parts: Sequence[Part], engine: Engine) -> list[Part]:
    """The parts with the lines that are frequent in the whole corpus, where the config asks for these.

    What was found lies in `lines_folder(parts)`, where finished work of an earlier attempt is used again.
    """
    settings = parts[0].clean.repeated_lines
    if not settings or not settings.across_documents:
        return list(parts)
    folder = lines_folder(parts)
    done = finished(folder, _COUNTED) or _find(parts, settings.across_documents, folder, engine)
    resources = replace(
        parts[0].resources,
        frequent_lines=FrequentLines(folder / _FREQUENT, settings.keep_one),
        frequent_digest=done["files"][_FREQUENT],
    )
    return [with_resources(part, resources) for part in parts]


def lines_folder(parts: Sequence[Part]) -> Path:
    """Where the lines of these parts (as planned) are counted."""
    return parts[0].parts_folder / f"lines-{digest([part.key for part in parts])}"


def _find(parts: Sequence[Part], at_least: int, folder: Path, engine: Engine) -> dict[str, Any]:
    """Write the frequent lines of all parts; returns the closing file."""
    tasks = [_Collecting(part, folder / part.folder.name) for part in parts]
    with progress("frequent lines", sum(part.raw_bytes for part in parts), "B") as bar:
        engine.run_all(collect_lines, tasks, lambda task: bar.advance(task.part.raw_bytes))
    ranges = [
        _Counting(folder, low, high, at_least, folder / f"range-{number:05d}")
        for number, (low, high) in enumerate(even_ranges(count_records(_runs(folder), _ENTRY)))
    ]
    engine.run_all(count_lines, ranges)
    with (folder / _FREQUENT).open("wb") as together:
        for task in ranges:
            with task.target.open("rb") as found:
                shutil.copyfileobj(found, together, 1 << 20)
    done = finish(folder, _COUNTED, {}, [_FREQUENT])
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (_FREQUENT, _COUNTED):
            path.unlink()
    return done


@dataclass(frozen=True)
class _Collecting:
    part: Part
    folder: Path


def collect_lines(task: _Collecting) -> dict[str, Any]:
    """Write (line, document) of each different line of each document of a part, unless that is done."""
    done = finished(task.folder, _COLLECTED)
    if done:
        return done
    task.folder.mkdir(parents=True, exist_ok=True)
    together = np.zeros(0, dtype=_ENTRY)
    with RunWriter(task.folder / _RUN, _ENTRY) as writer:
        for entries in _documents(task.part, task.folder):
            together = np.concatenate([together, entries])
            if len(together) >= _BATCH_LINES:
                writer.write(together)
                together = together[:0]
        writer.write(together)
    return finish(task.folder, _COLLECTED, {}, [_RUN])


def _documents(part: Part, spool_folder: Path) -> Iterator[NDArray[Any]]:
    """The different lines of each document as the rule will see it."""
    cleaner = Cleaner(part.clean, part.resources)
    min_characters = (part.clean.repeated_lines or LinesConfig()).min_characters
    for file in part.files:
        for record in Reading(file, part.source, spool_folder):
            cleaned = Dropped("") if isinstance(record, Rejected) else cleaner.clean_up_to(record, "repeated lines")
            if isinstance(cleaned, Dropped):
                continue
            lines = (line for line in cleaned.text.split("\n") if is_long_enough(line, min_characters))
            hashes = np.unique(np.fromiter(map(line_hash, lines), dtype=np.uint64))
            entries = np.empty(len(hashes), dtype=_ENTRY)
            entries["key"], entries["document"] = hashes, document_hash(cleaned.text)
            yield entries


@dataclass(frozen=True)
class _Counting:
    """A range of line hashes."""

    folder: Path
    low: int
    high: int
    at_least: int
    target: Path


@lru_cache(maxsize=2)
def _runs(folder: Path) -> tuple[Path, ...]:
    """The runs of all parts, once they are written; listed once a process, not once a range."""
    return tuple(sorted(folder.glob(f"*/{_RUN}")))


def count_lines(task: _Counting) -> dict[str, Any]:
    """Write the frequent lines of a range, sorted by hash, unless that is done."""
    marker = f"{task.target.name}.json"
    done = finished(task.folder, marker)
    if done:
        return done
    with task.target.open("wb") as file:
        for found in KeyRange.of(_runs(task.folder), _ENTRY, task.low, task.high).bounded():
            _frequent_in(found, task.at_least).tofile(file)
    return finish(task.folder, marker, {}, [task.target.name])


def _frequent_in(found: KeyRange, at_least: int) -> NDArray[Any]:
    """Lines that at least so many different documents hold, each with the smallest document hash."""
    entries = np.zeros(0, dtype=_ENTRY)
    for piece in found.pieces():  # one, or several of a single line, of which `at_least` documents tell enough
        entries = _distinct(np.concatenate([entries, piece]))
        entries = entries if found.fits else entries[:at_least]
    borders = borders_of_groups(entries["key"])
    first = entries[borders[:-1][np.diff(borders) >= at_least]]
    frequent = np.empty(len(first), dtype=FREQUENT_LINE)
    frequent["line"], frequent["keeper"] = first["key"], first["document"]
    return frequent


def _distinct(entries: NDArray[Any]) -> NDArray[Any]:
    """The entries sorted by line and document, equal ones once."""
    ordered = entries[np.lexsort((entries["document"], entries["key"]))]
    return ordered[borders_of_groups(ordered["key"], ordered["document"])[:-1]]
