"""Groundup's deduplication of a file of JSON lines: seconds of its parts, and the cluster of each document."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from groundup.corpus.clean import CleanConfig, Resources
from groundup.corpus.duplicates.deduplicate import find_duplicates
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.part_reader import read_part
from groundup.corpus.parts import PART_BYTES, plan_parts
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.sources import SourceConfig


def with_copies(kept: dict[int, int], path: Path) -> list[int]:
    """The cluster of every record; one that equals an earlier one to the byte is counted as it is read, and no row."""
    first: dict[str, int] = {}
    clusters = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            original = first.setdefault(json.loads(line)["text"], number)
            clusters.append(kept[original])
    return clusters


def main() -> None:
    """One job (JSON) -> one JSON line."""
    job = json.loads(sys.argv[1])
    work = Path(job["work"])
    config = DeduplicateConfig(
        threshold=job["threshold"],
        num_perm=job["bands"] * job["rows"],
        bands=job["bands"],
        shingle_tokens=job["shingle_words"],
    )
    source = SourceConfig(name="s", path=job["input"])
    file = RawFile(Path(job["input"]).name, Path(job["input"]))
    started = time.process_time()
    parts = plan_parts(source, [file], CleanConfig(), config, work / "parts", None, Resources(), 0, PART_BYTES)
    documents = [read_part(part)["documents"] for part in parts]
    signed = time.process_time()
    segments = [segment for part, count in zip(parts, documents) for segment in part.segments(count)]
    duplicates = find_duplicates(segments, config, work / "duplicates")
    kept: dict[int, int] = {}
    for segment in segments:
        kept.update(zip(segment.read_rows()["number"].tolist(), duplicates.of(segment)[1].tolist()))
    ended = time.process_time()
    clusters = with_copies(kept, Path(job["input"]))
    result = {"signature_seconds": signed - started, "clustering_seconds": ended - signed, "clusters": clusters}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
