"""datatrove's side of `benchmarks.cleaning`, in its own environment: its filters as FineWeb strings them together."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.data import Document  # type: ignore[import-not-found]
from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)


def outcome(filters: list[Any], document: Any) -> str:
    """The reason of the first filter that drops the document, "" when all keep it."""
    for one in filters:
        result = one.filter(document)
        if result is not True:
            return str(result[1])
    return ""


def main() -> None:
    """Filter every document of the first argument; write outcomes to the second."""
    source, target, language = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    with source.open(encoding="utf-8") as lines:
        documents = [Document(text=row["text"], id=row["id"]) for row in map(json.loads, lines)]
    size_bytes = sum(len(document.text.encode()) for document in documents)
    filters = [
        GopherRepetitionFilter(language=language),
        GopherQualityFilter(language=language),
        C4QualityFilter(filter_no_terminal_punct=False, language=language),
        FineWebQualityFilter(language=language),
    ]
    for one in filters:  # loads the word tokenizer
        one.filter(Document(text="A first call. " * 100, id="first"))
    wall, started = time.perf_counter(), time.process_time()
    reasons = [outcome(filters, document) for document in documents]
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    with target.open("w", encoding="utf-8") as out:
        for reason, document in zip(reasons, documents, strict=True):
            out.write(json.dumps([reason, "" if reason else document.text]) + "\n")
    kept = reasons.count("")
    figures = {
        "megabytes_per_second": size_bytes / seconds / 1e6,
        "kept": kept,
        "seconds": seconds,
        "wall_seconds": wall,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
