"""A segment's documents and their split codes -> compressed shards, one a split (more above SHARD_BYTES).

    segment + codes.bin --write_shards--> <segment>/train-00000.zst ...   shards.json (last)
                        --publish-------> documents/train-<source>-00000.jsonl.zst ...

Behind a document of the train split follow those that augmentation adds for it. Invariant: the bytes of a shard depend
on the segment, the codes, the augmentation and the answers of its models only.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from groundup.corpus.augment import Augmentation, Augmenter, Complete, RewriteConfig
from groundup.corpus.closing import finish, finished
from groundup.corpus.documents import SPLITS, Document, LineWriter, from_line, read_lines, shard_name, to_line
from groundup.corpus.segments import CODES, DOCUMENTS, Segment
from groundup.corpus.split import TRAIN

SHARD_BYTES = 64 << 20
SHARDED = "shards.json"


@dataclass(frozen=True)
class Sharding:
    """A segment and what is added to its documents of the train split."""

    segment: Segment
    answers: Path
    """Folder that keeps the answers of models."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    augmentation_key: str = ""
    """Hash of all that decides what is added."""


def write_shards(task: Sharding, complete: Callable[[RewriteConfig], Complete] | None = None) -> dict[str, Any]:
    """Sort a segment's documents into shards by `codes.bin`, unless that is done; `complete` runs model folders.

    Returns the closing file; keys `shards`: a list of {split, name, documents, bytes}, `added`: method -> counts.
    """
    folder = task.segment.folder
    done = finished(folder, SHARDED)
    if done and done["augmentation"] == task.augmentation_key:
        return done
    codes = np.fromfile(folder / CODES, dtype=np.uint8)
    lines = zip(codes.tolist(), read_lines(folder / DOCUMENTS), strict=True)
    augmenter = Augmenter(task.augmentation, task.answers, complete)
    with _ShardWriters(folder) as writers:
        if task.augmentation.methods:
            _write_with_further(lines, writers, augmenter)
        else:
            for code, line in lines:
                if code:
                    writers.write(SPLITS[code - 1], line)
    added = {name: asdict(counts) for name, counts in augmenter.added.items()}
    content = {"shards": writers.written, "added": added, "augmentation": task.augmentation_key}
    return finish(folder, SHARDED, content, (CODES, *(shard["name"] for shard in writers.written)))


def _write_with_further(lines: Iterable[tuple[int, bytes]], writers: _ShardWriters, augmenter: Augmenter) -> None:
    """The kept documents, and behind each of the train split those that are added for it."""

    def of_train() -> Iterator[Document]:
        for code, line in lines:
            if code == TRAIN:
                yield from_line(line)
            elif code:
                writers.write(SPLITS[code - 1], line)

    for document, further in augmenter.over(of_train()):
        for each in (document, *further):
            writers.write(SPLITS[TRAIN - 1], to_line(each))


class _ShardWriters:
    """One open file a split; a full one is closed and followed by the next."""

    def __init__(self, folder: Path) -> None:
        self.written: list[dict[str, Any]] = []
        self._folder = folder
        self._open: dict[str, tuple[LineWriter, dict[str, Any]]] = {}

    def __enter__(self) -> _ShardWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack = ExitStack()
        for writer, _ in self._open.values():
            stack.push(writer)
        stack.__exit__(kind, value, trace)  # all of them, also where closing one fails
        self.written.sort(key=lambda shard: str(shard["name"]))

    def write(self, split: str, line: bytes) -> None:
        """Append a document's line to the current shard of `split`."""
        if split not in self._open:
            number = sum(shard["split"] == split for shard in self.written)
            shard: dict[str, Any] = {"split": split, "name": f"{split}-{number:05d}.zst", "documents": 0, "bytes": 0}
            self.written.append(shard)
            self._open[split] = LineWriter(self._folder / shard["name"]), shard
        writer, shard = self._open[split]
        writer.write(line)
        shard["documents"] += 1
        shard["bytes"] += len(line)
        if shard["bytes"] >= SHARD_BYTES:
            writer.close()
            del self._open[split]


def publish(
    segments: Sequence[Segment], sources: Sequence[str], written: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Link the segments' shards into `folder` under their final names, numbered per source and split.

    `sources`: the name of each segment's source. Returns {file, split, source, documents, bytes} of each shard, and
    the hash of each by its final name, as it was when its segment was written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    numbers: dict[tuple[str, str], int] = {}
    shards, hashes = [], {}
    for segment, source, result in zip(segments, sources, written):
        for shard in result["shards"]:
            place = (shard["split"], source)
            numbers[place] = numbers.get(place, -1) + 1
            name = shard_name(*place, numbers[place])
            link_file(segment.folder / shard["name"], folder / name)
            hashes[name] = result["files"][shard["name"]]
            counts = {"documents": shard["documents"], "bytes": shard["bytes"]}
            shards.append({"file": name, "split": place[0], "source": source, **counts})
    return shards, hashes


def link_file(origin: Path, target: Path) -> None:
    """A second name for a file in place of what was there; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(origin, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV):
            raise
        shutil.copyfile(origin, target)
