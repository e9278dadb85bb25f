"""A large plain file of JSON lines -> sections that end at line ends, so that it is read by all workers and resumed.

    big.jsonl --sections--> bytes [0, 32 MB)  [32 MB, 64 MB) ...   --count_lines--> how many lines lie before each

Invariant: the sections together give the records that the file gives, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from groundup.corpus import detect
from groundup.corpus.compressed import DamagedFile
from groundup.corpus.detect import Detected
from groundup.corpus.documents import Document
from groundup.corpus.formats import BLOCK_BYTES, Rejected, Row, read_json_lines
from groundup.corpus.readers import Reading, to_document
from groundup.corpus.sources import LineSection, RawFile, SourceConfig

SECTION_BYTES = 32 << 20


def in_line_sections(file: RawFile, source: SourceConfig) -> list[RawFile]:
    """The file in sections, or the file itself where it is small, packed, or no JSON lines in UTF-8."""
    try:
        size = file.path.stat().st_size
        if size < 2 * SECTION_BYTES:
            return [file]
        with file.path.open("rb") as handle:
            head = handle.read(detect.HEAD_BYTES)
            encoding, mark_bytes = detect.byte_order_mark(head[:4])
            plain = encoding == "utf-8" and not detect.compression_of(head)
            if not plain or detect.format_of(head[mark_bytes:], file.name, source.format) != "jsonl":
                return [file]
            borders = [mark_bytes, *_line_starts(handle, size), size]
    except (OSError, DamagedFile):  # for its reader to say
        return [file]
    spans = [(start, stop) for start, stop in pairwise(borders) if stop > start]
    return [replace(file, lines=LineSection(start, stop)) for start, stop in spans]


def _line_starts(handle: BinaryIO, size: int) -> Iterator[int]:
    """The first line start at or behind every SECTION_BYTES."""
    for wanted in range(SECTION_BYTES, size, SECTION_BYTES):
        handle.seek(wanted - 1)
        while (found := handle.readline(BLOCK_BYTES)) and not found.endswith(b"\n"):
            pass
        yield handle.tell()


def section_bytes(file: RawFile, size_bytes: int) -> int:
    """Bytes of a file, or of its section."""
    return file.lines.stop - file.lines.start if file.lines else size_bytes


def count_lines(file: RawFile) -> int:
    """Line ends in a file's section; 0 where it cannot be read, which its reader will say."""
    count = 0
    if file.lines:
        try:
            with file.path.open("rb") as handle:
                handle.seek(file.lines.start)
                left = file.lines.stop - file.lines.start
                while left > 0 and (block := handle.read(min(BLOCK_BYTES, left))):
                    count += block.count(b"\n")
                    left -= len(block)
        except OSError:
            return 0
    return count


def numbered(files: Sequence[RawFile], counts: Sequence[int]) -> list[RawFile]:
    """Sections of one file, in order, each with the number of lines before it."""
    before = [0, *accumulate(counts)]
    return [
        replace(file, lines=replace(file.lines, lines_before=lines)) if file.lines else file
        for file, lines in zip(files, before)
    ]


class SectionReading:
    """One pass over one section, like `Reading` over a file."""

    detected = Detected("jsonl")

    def __init__(self, file: RawFile, section: LineSection, source: SourceConfig) -> None:
        self.file, self._section, self._source = file, section, source

    def __iter__(self) -> Iterator[Document | Rejected]:
        """Documents and rejections in the order of the file."""
        try:
            handle = self.file.path.open("rb")
        except (FileNotFoundError, PermissionError) as error:
            yield Rejected("not readable", 0, error.strerror or "")
            return
        with handle:
            handle.seek(self._section.start)
            window: Any = _Window(handle, self._section.stop - self._section.start)
            for row in read_json_lines(window, self._source):
                moved = replace(row, number=row.number + self._section.lines_before)
                yield to_document(moved, self._source, self.file.name) if isinstance(moved, Row) else moved


class _Window:
    """The lines of the next bytes of a file."""

    def __init__(self, handle: BinaryIO, size_bytes: int) -> None:
        self._handle, self._left = handle, size_bytes

    def readline(self, limit_bytes: int) -> bytes:
        """The next line or the beginning of it, empty at the end."""
        line = self._handle.readline(limit_bytes) if self._left > 0 else b""
        self._left -= len(line)
        return line


def reading_of(file: RawFile, source: SourceConfig, spool_folder: Path) -> Reading | SectionReading:
    """A pass over a file or over its section."""
    return SectionReading(file, file.lines, source) if file.lines else Reading(file, source, spool_folder)
