"""A listing of dropped duplicates, for people and for `prepare --explain`: which record, of what kind, for which.

    rows and copies of a segment + duplicates --list_duplicates--> listing of the segment
                                              --publish_listing--> duplicates/<source>-<number>.jsonl.zst

Each line is `{"id": ..., "kind": "exact" | "near", "kept": ...}` with ids as `source/file:number`. Invariant: every
duplicate of the account has one line; memory is bounded by one segment's rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup import stage
from groundup.corpus.documents import LineWriter, read_lines
from groundup.corpus.duplicates.deduplicate import DROPPED, EXACT, KEPT, Duplicates
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.duplicates.steps import OWN_FILES, Step, Steps, Task, Writers
from groundup.corpus.engines.engine import Engine
from groundup.corpus.part_reader import COPIES
from groundup.corpus.parts import Part
from groundup.corpus.segments import Segment, Store, part_number
from groundup.corpus.shards import link_file

LISTING = "duplicates"
_PLACES = "places.json"


def list_duplicates(
    parts: Sequence[Part],
    segments: Sequence[Segment],
    config: DeduplicateConfig,
    duplicates: Duplicates,
    folder: Path,
    engine: Engine,
) -> list[Path]:
    """Write a listing for each segment into `folder`, unless that is done; returns their paths, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [[part.source.name, [file.name for file in part.files]] for part in parts]
    stage.write_text(folder / _PLACES, json.dumps(places))
    steps = Steps(Store(tuple(segments)), config, folder, engine)
    return steps.by_segment("listing", _LISTING, list(duplicates.dropped))["jsonl.zst"]


def publish_listing(segments: Sequence[Segment], names: Sequence[str], listings: Sequence[Path], folder: Path) -> None:
    """Link the listings that hold anything into `folder`, numbered per source. `names`: of each segment's source."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    numbers: dict[str, int] = {}
    for name, listing in zip(names, listings, strict=True):
        if next(read_lines(listing), None):
            numbers[name] = numbers.get(name, -1) + 1
            link_file(listing, folder / f"{name}-{numbers[name]:05d}.jsonl.zst")


def find_duplicate(folder: Path, source: str, name: str) -> tuple[str, str] | None:
    """(kind, id of the document that is kept) of the record called `name` of a source, if it was dropped as one."""
    start = _line(name, "", "").partition(b',"kind"')[0] + b',"kind"'
    for path in sorted((folder / LISTING).glob(f"{source}-*.jsonl.zst")):
        for line in read_lines(path):
            if line.startswith(start):
                found = json.loads(line)
                return str(found["kind"]), str(found["kept"])
    return None


def _line(name: str, kind: str, kept: str) -> bytes:
    return f'{{"id":{encode_basestring(name)},"kind":"{kind}","kept":{encode_basestring(kept)}}}\n'.encode()


def _list(task: Task, writers: Writers) -> dict[str, Any]:
    segment = task.segment
    outcome, kept = Duplicates(task.inputs).of(segment)
    path = task.target.with_name(f"{task.name}.jsonl.zst")
    source = _places(task.folder / _PLACES)[segment.part][0]
    with LineWriter(path) as writer:
        rows = np.flatnonzero(outcome != KEPT)
        own = rows.astype(np.uint64) + np.uint64(segment.first)
        originals = _named(task, kept[rows])
        for name, original, kind in zip(_names(task, own), kept[rows].tolist(), outcome[rows].tolist()):
            writer.write(_line(name, "exact" if kind == EXACT else "near", originals[original]))
        copies = [(name, int(kept[document - segment.first])) for name, document in _copies_of(segment)]
        originals = _named(task, np.array([document for _, document in copies], dtype=np.uint64))
        for name, document in copies:
            writer.write(_line(f"{source}/{name}", "exact", originals[document]))
    return {OWN_FILES: [path.name]}


def _copies_of(segment: Segment) -> Iterator[tuple[str, int]]:
    """(id within the source, document of the segment with the same raw text) of records that have no rows."""
    if not segment.read_rows()["copies"].any():
        return
    for line in read_lines(segment.folder.parent / COPIES):
        name, document = json.loads(line)
        if segment.first <= document < segment.first + segment.rows:
            yield name, document


def _named(task: Task, documents: NDArray[np.uint64]) -> dict[int, str]:
    distinct = np.unique(documents)
    return dict(zip(distinct.tolist(), _names(task, distinct)))


def _names(task: Task, documents: NDArray[np.uint64]) -> list[str]:
    """`source/file:number` of each document."""
    if not len(documents):
        return []
    rows, places = task.store.rows(documents), _places(task.folder / _PLACES)
    found = []
    numbers = zip(documents.tolist(), rows["file"].tolist(), rows["number"].tolist())
    for (document, file, number), member in zip(numbers, task.store.member_names(documents, rows)):
        source, files = places[part_number(document)]
        found.append(f"{source}/{files[file]}/{member}:{number}" if member else f"{source}/{files[file]}:{number}")
    return found


@lru_cache(maxsize=2)
def _places(path: Path) -> list[tuple[str, list[str]]]:
    """Name of the source and names of the files of each part; read once a process."""
    return [(source, files) for source, files in json.loads(path.read_text(encoding="utf-8"))]


_LISTING = Step(_list, DROPPED, {})
