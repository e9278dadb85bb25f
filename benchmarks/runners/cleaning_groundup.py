"""Groundup's side of `benchmarks.cleaning`: documents in, outcomes and seconds out."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from groundup.config import build
from groundup.corpus.clean import CleanConfig, Cleaner, Dropped
from groundup.corpus.documents import Document

FILTERS_ONLY = {
    "preset": "fineweb",
    "unicode": "keep",
    "mojibake": False,
    "boilerplate": None,
    "personal_data": None,
    "samples": 0,
}


def main() -> None:
    """Clean every document of the first argument; write outcomes to the second."""
    source, target = map(Path, sys.argv[1:3])
    with source.open(encoding="utf-8") as lines:
        documents = [Document(row["id"], row["text"], "s") for row in map(json.loads, lines)]
    size_bytes = sum(len(document.text.encode()) for document in documents)
    cleaner = Cleaner(build(CleanConfig, FILTERS_ONLY, "benchmark"))
    cleaner.clean(documents[0])
    wall, started = time.perf_counter(), time.process_time()
    outcomes = [cleaner.clean(document) for document in documents]
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    with target.open("w", encoding="utf-8") as out:
        for outcome in outcomes:
            dropped = isinstance(outcome, Dropped)
            out.write(json.dumps([outcome.reason, ""] if dropped else ["", outcome.text]) + "\n")
    kept = sum(not isinstance(outcome, Dropped) for outcome in outcomes)
    figures = {
        "megabytes_per_second": size_bytes / seconds / 1e6,
        "kept": kept,
        "seconds": seconds,
        "wall_seconds": wall,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
