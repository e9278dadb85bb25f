"""One part of the raw files -> its cleaned documents with hashes and signatures; later -> its share of the shards.

    files of one source, about 32 MB --read_part--> parts/<number>-<key>/  documents.jsonl.zst  rows.bin  signatures.bin
                                                                           part.json (written last, with hashes)
    + which document goes where      --write_shards-->                     train-00000.zst ...  shards.json (last)

Invariant: a part with its intact closing file is finished and used again after a kill; its bytes depend only on its
files and the config, so the number of workers never shows.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup import stage
from groundup.config import digest, to_dict
from groundup.corpus.account import Account, Samples, escaped
from groundup.corpus.augment import Augmentation, Augmenter, Complete, RewriteConfig
from groundup.corpus.clean import CleanConfig, Cleaner, Dropped, Resources
from groundup.corpus.deduplicate import DeduplicateConfig, Signer, normal_hash
from groundup.corpus.documents import (
    SPLITS,
    Document,
    LineWriter,
    from_line,
    hash_text,
    read_lines,
    record_number,
    to_line,
)
from groundup.corpus.readers import Reading, Rejected
from groundup.corpus.sources import RawFile, SourceConfig
from groundup.corpus.split import TRAIN

PART_BYTES = 32 << 20
PART_FILES = 2000
SHARD_BYTES = 64 << 20
DOCUMENTS, ROWS, SIGNATURES, CODES = "documents.jsonl.zst", "rows.bin", "signatures.bin", "codes.bin"
READ, SHARDED = "part.json", "shards.json"
REWRITES = "rewrites"
"""Folder, beside the parts, of the answers of models."""
_FORMAT = 1
_BATCH_SHINGLES = 1 << 19
_BATCH_ROWS = 2048
_SEEN_LIMIT = 1 << 20
_REPEATED = Dropped("repeated")

ROW = np.dtype(
    [
        ("exact", "<u8", 2),
        ("content", "<u8", 2),
        ("number", "<u8"),
        ("group", "<u8"),
        ("file", "<u4"),
        ("text_bytes", "<u4"),
        ("characters", "<u4"),
        ("shingles", "<u4"),
    ]
)
"""A document without its text: hash of normal form and of the text, record number and file (within the part), and the
row (within the part) of the first piece of the text that it is a piece of."""


@dataclass(frozen=True)
class Part:
    """A task for a worker: files of one source that are read together."""

    number: int
    source: SourceConfig
    files: tuple[RawFile, ...]
    raw_bytes: int
    clean: CleanConfig
    deduplicate: DeduplicateConfig
    parts_folder: Path
    key: str = ""
    """Hash of all that the part's content depends on."""
    resources: Resources = field(default_factory=Resources)
    """Files that cleaning needs, read once."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What is added to the train split."""

    @property
    def folder(self) -> Path:
        """Where the finished part lies."""
        return self.parts_folder / f"{self.number:05d}-{self.key}"


def _part_key(part: Part) -> str:
    """Hash of all that the content of a part depends on."""
    options = to_dict(part.source)
    del options["path"]
    files = [[file.name, *_state(file.path)] for file in part.files]
    clean = [part.clean, part.resources.digest()]
    settings = {
        "source": options,
        "clean": clean,
        "deduplicate": part.deduplicate,
        "augment": part.augmentation.identity(),
    }
    return digest({"format": _FORMAT, "files": files, **settings})


def _state(path: Path) -> tuple[str, int, int]:
    """Cheap stand-in for a file's content while a stage is worked on (its hash is in the stage's fingerprint)."""
    try:
        status = path.stat()
    except OSError:
        return ascii(str(path)), 0, 0
    return ascii(str(path)), status.st_size, status.st_mtime_ns


def plan_parts(
    source: SourceConfig,
    files: Sequence[RawFile],
    clean: CleanConfig,
    deduplicate: DeduplicateConfig,
    parts_folder: Path,
    first_number: int,
    resources: Resources,
    augmentation: Augmentation,
) -> list[Part]:
    """Files of a source, in order, in groups of about PART_BYTES; a larger file is a part of its own."""
    parts: list[Part] = []
    members: list[RawFile] = []
    total = 0
    sizes = [_state(file.path)[1] for file in files]
    for file, size, following in zip(files, sizes, [*sizes[1:], PART_BYTES + 1]):
        members.append(file)
        total += size
        if total + following > PART_BYTES or len(members) == PART_FILES:
            place = (clean, deduplicate, parts_folder)
            part = Part(first_number + len(parts), source, tuple(members), total, *place, augmentation=augmentation)
            parts.append(with_resources(part, resources))
            members, total = [], 0
    return parts


def with_resources(part: Part, resources: Resources) -> Part:
    """The part with these resources and the key that follows from them."""
    part = replace(part, resources=resources)
    return replace(part, key=_part_key(part))


def finish(folder: Path, marker: str, content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Write the closing file `marker` with the hashes of the files `names` of `folder`; returns what it holds."""
    values = {**content, "files": {name: stage.hash_file(folder / name) for name in names}}
    stage.write_text(folder / marker, json.dumps(values, allow_nan=False))
    return values


def finished(folder: Path, marker: str) -> dict[str, Any] | None:
    """What an intact closing file holds; None when it is not there or a file it names is missing or changed."""
    try:
        values: dict[str, Any] = json.loads((folder / marker).read_text(encoding="utf-8"))
        intact = all(stage.hash_file(folder / name) == expected for name, expected in values["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if intact else None


def read_part(part: Part) -> dict[str, Any]:
    """Read, clean, hash and sign all documents of a part, unless that is done; returns its closing file.

    Keys: `accounts` (one a file, `kept` still open), `samples`, `changes`, `documents`.
    """
    done = finished(part.folder, READ)
    if done:
        return done
    shutil.rmtree(part.folder, ignore_errors=True)
    part.folder.mkdir(parents=True)
    with _PartWriter(part) as writer:
        accounts = [writer.read(index, file) for index, file in enumerate(part.files)]
    content = {
        "accounts": accounts,
        "samples": writer.samples.values,
        "changes": writer.cleaner.changes.to_json(),
        "documents": writer.rows_written,
    }
    return finish(part.folder, READ, content, (DOCUMENTS, ROWS, SIGNATURES))


class _PartWriter:
    """Takes records in order and writes the three files of a part, a batch at a time."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.samples = Samples(limit=part.clean.samples)
        self.cleaner = Cleaner(part.clean, part.resources)
        self.rows_written = 0
        self._signer = Signer(part.deduplicate) if part.deduplicate.near else None
        self._rows: list[tuple[Any, ...]] = []
        self._seen: dict[bytes, Dropped] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _PartWriter:
        self._documents = self._stack.enter_context(LineWriter(self.part.folder / DOCUMENTS, level=1))
        self._row_file: BinaryIO = self._stack.enter_context((self.part.folder / ROWS).open("wb"))
        self._signature_file: BinaryIO = self._stack.enter_context((self.part.folder / SIGNATURES).open("wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._stack.__exit__(kind, value, trace)

    def read(self, index: int, file: RawFile) -> dict[str, Any]:
        """All records of one file; returns its account with what the file was found to be."""
        account, problem, first_fault, first_row = Account(), "", "", self.rows_written
        reading = Reading(file, self.part.source, self.part.folder)
        for record in reading:
            if isinstance(record, Rejected):
                account.reject(record.reason, record.records)
                self._sample("rejected", record.reason, index, record.number, record.sample)
                fault = escaped(f"{record.reason}: {record.sample}".removesuffix(": "))
                first_fault = first_fault or fault
                problem = problem if record.number else fault
            else:
                account.load()
                in_pieces = reading.detected is not None and reading.detected.format == "text"
                self._take(record, index, first_row if in_pieces else self.rows_written, account)
        return {
            "name": file.name,
            "detected": str(reading.detected or "not read"),
            "problem": problem or ("" if account.loaded else first_fault or "no records"),
            **account.to_json(),
        }

    def _take(self, document: Document, index: int, group: int, account: Account) -> None:
        data = document.text.encode()
        raw_hash = hash_text(data)
        outcome = self._seen.get(raw_hash)
        if outcome is None:
            cleaned = self.cleaner.clean(document)
            outcome = cleaned if isinstance(cleaned, Dropped) else _REPEATED
            if len(self._seen) < _SEEN_LIMIT:
                self._seen[raw_hash] = outcome
            if isinstance(cleaned, Document):
                if cleaned is not document:
                    data = cleaned.text.encode()
                self._write(cleaned, data, raw_hash if cleaned is document else hash_text(data), index, group)
                return
        if outcome is _REPEATED:
            account.duplicates["exact"] += 1
            self._sample("duplicates", "exact", index, record_number(document), document.text)
        else:
            account.filter(outcome.reason)
            value = round(outcome.value, 4) if isinstance(outcome.value, float) else outcome.value
            measured = {"value": value, "bound": outcome.bound} if outcome.bound is not None else {}
            number, excerpt = record_number(document), outcome.excerpt or document.text
            self._sample("filtered", outcome.reason, index, number, excerpt, measured)

    def _sample(
        self, kind: str, reason: str, index: int, number: int, excerpt: str, measured: Mapping[str, Any] | None = None
    ) -> None:
        file = f"{self.part.source.name}/{self.part.files[index].name}"
        self.samples.add(kind, reason, file, number, excerpt, measured)

    def _write(self, document: Document, data: bytes, content: bytes, index: int, group: int) -> None:
        self._documents.write(to_line(document))
        shingles = self._signer.add(document.text) if self._signer else 0
        exact = normal_hash(document.text)
        hashes = (_two_words(exact), _two_words(content))
        place = (record_number(document), min(group, self.rows_written), index)
        self._rows.append((*hashes, *place, len(data), len(document.text), shingles))
        self.rows_written += 1
        pending = self._signer.pending_shingles if self._signer else 0
        if pending >= _BATCH_SHINGLES or len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._row_file.write(np.array(self._rows, dtype=ROW).tobytes())
        self._rows = []
        if self._signer:
            self._signature_file.write(self._signer.take().astype("<u4").tobytes())


def _two_words(hash_bytes: bytes) -> tuple[int, int]:
    first, second = struct.unpack(">QQ", hash_bytes)
    return first, second


def read_rows(part: Part) -> NDArray[Any]:
    """The rows (dtype ROW) of a finished part."""
    return np.fromfile(part.folder / ROWS, dtype=ROW)


def write_shards(part: Part, complete: Callable[[RewriteConfig], Complete] | None = None) -> dict[str, Any]:
    """Sort a part's documents into one file a split (more above SHARD_BYTES), unless that is done.

    `codes.bin` in the part's folder says where each goes: 0 nowhere, else 1 + position in SPLITS. Behind a document of
    the train split follow those that are added for it; `complete` runs model folders. Returns the closing file; keys
    `shards`: a list of {split, name, documents, bytes}, `added`: method -> counts.
    """
    done = finished(part.folder, SHARDED)
    if done:
        return done
    codes = np.fromfile(part.folder / CODES, dtype=np.uint8)
    lines = zip(codes.tolist(), read_lines(part.folder / DOCUMENTS), strict=True)
    augmenter = Augmenter(part.augmentation, part.parts_folder / REWRITES, complete)
    with _ShardWriters(part.folder) as writers:
        if part.augmentation.methods:
            _write_with_further(lines, writers, augmenter)
        else:
            for code, line in lines:
                if code:
                    writers.write(SPLITS[code - 1], line)
    shards = writers.written
    content = {"shards": shards, "added": {name: asdict(added) for name, added in augmenter.added.items()}}
    return finish(part.folder, SHARDED, content, (CODES, *(shard["name"] for shard in shards)))


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
        for writer, _ in self._open.values():
            writer.__exit__(kind, value, trace)
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
