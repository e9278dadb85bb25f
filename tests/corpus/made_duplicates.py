"""Texts and segments for the tests of deduplication."""

import random
from pathlib import Path

import numpy as np

from groundup.corpus.documents import Document
from groundup.corpus.duplicates.deduplicate import find_duplicates
from groundup.corpus.duplicates.shingles import token_hashes
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.engines.processes import LocalEngine
from groundup.corpus.segment_writer import Origin, SegmentWriter
from groundup.corpus.segments import Segment, document_number, rows_by_segment

WORDS = [f"word{i}" for i in range(500)]


def sentence(rng: random.Random, words: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def variant(text: str, rng: random.Random, changes: int) -> str:
    """`text` with some words replaced."""
    words = text.split()
    for _ in range(changes):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def segments_of(parts: list[list[str]], folder: Path, config: DeduplicateConfig, priorities=None) -> list[Segment]:
    """Segments of the texts of some parts."""
    found = []
    for number, texts in enumerate(parts):
        priority = priorities[number] if priorities else 3
        place = folder / f"part{number}"
        place.mkdir(parents=True)
        with SegmentWriter(place, number, priority, config) as writer:
            for row, text in enumerate(texts):
                writer.write(Document(f"f:{row + 1}", text, "s"), token_hashes(text), Origin(0, row))
        found += [
            Segment(place / name, number, document_number(number, first), rows, priority)
            for name, first, rows in rows_by_segment(len(texts))
        ]
    return found


def outcomes(parts: list[list[str]], folder: Path, config: DeduplicateConfig, priorities=None, workers=0):
    """(Duplicates, outcome of each text, text that is kept for each), over the parts' texts in order."""
    segments = segments_of(parts, folder, config, priorities)
    duplicates = find_duplicates(segments, config, folder / "duplicates", LocalEngine(workers))
    outcome, kept = (
        (
            np.concatenate([np.zeros(0, dtype=np.uint64), *column])
            for column in zip(*map(duplicates.of, segments), strict=True)
        )
        if segments
        else (np.zeros(0), np.zeros(0))
    )
    texts = [text for part in parts for text in part]
    numbers = [document_number(number, row) for number, part in enumerate(parts) for row in range(len(part))]
    by_number = dict(zip(numbers, texts, strict=True))
    return duplicates, outcome.astype(int).tolist(), [by_number[int(document)] for document in kept]
