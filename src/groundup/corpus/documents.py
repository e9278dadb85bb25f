"""Documents, and the compressed shards that hold them.

    documents/<split>-<source>-<number>.jsonl.zst      one JSON object a line: id, text, source, metadata

Invariant: a shard is one zstd stream with a checksum, and reading it either gives all its documents or raises; equal
documents in equal order give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import zstandard

from groundup.corpus.reading.compressed import DamagedFile, expand
from groundup.errors import DataError

SPLITS = ("train", "validation", "test")
DOCUMENTS = "documents"
_SHARD_NAME = re.compile(r"(train|validation|test)-(.+)-(\d{5,})\.jsonl\.zst")
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Document:
    """One text with where it came from: `id` is `<file>:<record number>`, unique within a source."""

    id: str
    text: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def record_number(document: Document) -> int:
    """The number of the document's record within its file."""
    return int(document.id.rpartition(":")[2])


def to_line(document: Document) -> bytes:
    """One UTF-8 JSON line. Raises UnicodeEncodeError on lone surrogates, which readers reject beforehand."""
    values = {
        "id": document.id,
        "text": document.text,
        "source": document.source,
        "metadata": dict(document.metadata),
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Document:
    """The document of one line that `to_line` wrote."""
    return Document(**json.loads(line))


class LineWriter:
    """Writes lines into one zstd file under a temporary name; `close` renames it, so a file there is whole."""

    def __init__(self, path: Path, level: int = _LEVEL) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._file = self._temporary.open("wb")
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._stream = compressor.stream_writer(self._file, closefd=False)

    def write(self, data: bytes) -> None:
        """Append one or more whole lines."""
        self._stream.write(data)

    def close(self) -> None:
        """End the stream and give the file its final name."""
        self._stream.close()  # type: ignore[no-untyped-call]
        self._file.close()
        os.replace(self._temporary, self.path)

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


class _BlockStream(io.RawIOBase):
    """An iterator of byte blocks as a readable file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of one zstd file, streamed. Raises DamagedFile when it is cut or its checksum is wrong."""
    with path.open("rb") as handle:
        stream = io.BufferedReader(_BlockStream(expand(cast(BinaryIO, handle), "zstd")), 1 << 17)
        yield from stream


def shard_name(split: str, source: str, number: int) -> str:
    """File name of one shard."""
    return f"{split}-{source}-{number:05d}.jsonl.zst"


def shard_paths(folder: Path, split: str, source: str | None = None) -> list[Path]:
    """Shards of one split (and source) of a finished corpus, in the order of their documents.

    Raises DataError when the folder is no corpus or the split has no such name; a split without documents is empty.
    """
    if split not in SPLITS:
        raise DataError(f"split '{split}' is not known; use one of {', '.join(SPLITS)}")
    if not (folder / DOCUMENTS).is_dir():
        raise DataError(f"{folder}: no {DOCUMENTS}/ folder, so this is no prepared corpus; run the prepare stage")
    named = [(_SHARD_NAME.fullmatch(path.name), path) for path in (folder / DOCUMENTS).iterdir()]
    shards = [(m[2], int(m[3]), path) for m, path in named if m and m[1] == split and source in (None, m[2])]
    return [path for _, _, path in sorted(shards)]


def read_documents(folder: Path, split: str, source: str | None = None) -> Iterator[Document]:
    """Documents of one split of a finished corpus, streamed: sources by name, then files and records in order.

    Raises DataError when the folder is no corpus or a shard is damaged.
    """
    for path in shard_paths(folder, split, source):
        yield from documents_of(path)


def documents_of(path: Path) -> Iterator[Document]:
    """Documents of one shard of a finished corpus, streamed. Raises DataError when it is damaged."""
    try:
        yield from map(from_line, read_lines(path))
    except (DamagedFile, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged shard ({error}); remove the corpus stage and run again") from None


def hash_text(data: bytes) -> bytes:
    """128-bit BLAKE2b of a text's bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()
