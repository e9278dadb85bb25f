"""One document of a finished corpus by its id: its split, its text, and what augmentation made of it.

Invariant: shards are read until the document is found; what is in memory is one line of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from groundup.corpus.documents import SPLITS, Document, from_line, read_lines, shard_paths
from groundup.corpus.reading.compressed import DamagedFile
from groundup.errors import DataError


@dataclass(frozen=True)
class Kept:
    """A document that is kept."""

    split: str
    document: Document
    added: tuple[Document, ...] = ()
    """What augmentation made of it."""


def find_kept(corpus: Path, source: str, name: str) -> Kept | None:
    """The document whose id within its source is `name`; None when it is in no split. Raises DataError on damage."""
    start = b'{"id":' + json.dumps(name, ensure_ascii=False).encode()
    start_of_added = start[:-1] + b"#"
    for split in SPLITS:
        lines = _lines(corpus, split, source)
        for line in lines:
            if line.startswith(start):
                added = []
                for further in lines:
                    if not further.startswith(start_of_added):
                        break
                    added.append(from_line(further))
                return Kept(split, from_line(line), tuple(added))
    return None


def _lines(corpus: Path, split: str, source: str) -> Iterator[bytes]:
    for path in shard_paths(corpus, split, source):
        try:
            yield from read_lines(path)
        except DamagedFile as error:
            raise DataError(f"{path}: damaged shard ({error}); remove the corpus stage and run again") from None
