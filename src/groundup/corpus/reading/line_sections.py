"""A large plain file of JSON lines -> sections that end at line ends, so that it is read by all workers and resumed.

    big.jsonl --sections--> bytes [0, 32 MB)  [32 MB, 64 MB) ...   --count_lines--> how many lines lie before each

Invariant: the sections together give the records that the file gives, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

from groundup.corpus.reading import detect
from groundup.corpus.reading.compressed import DamagedFile, is_of_machine
from groundup.corpus.reading.encodings import find_encoding
from groundup.corpus.reading.files import LineSection, RawFile
from groundup.corpus.reading.json_records import BLOCK_BYTES, read_json_lines
from groundup.corpus.reading.records import Rejected, Row
from groundup.corpus.reading.sources import SourceConfig

SECTION_BYTES = 32 << 20


def in_line_sections(file: RawFile, source: SourceConfig) -> list[RawFile]:
    """The file in sections, or the file itself where it is small, remote, packed, or no JSON lines in UTF-8."""
    if file.remote is not None or source.replaces:
        return [file]
    try:
        size = file.path.stat().st_size
        if size < 2 * SECTION_BYTES:
            return [file]
        with file.path.open("rb") as handle:
            head = handle.read(detect.HEAD_BYTES)
            if detect.compression_of(head) or detect.declared_format_of(head, file.name, source.format):
                return [file]
            handle.seek(0)
            encoding, mark_bytes = find_encoding(handle, source.encoding_name)
            is_utf8 = encoding.name == "UTF-8"
            if not is_utf8 or detect.format_of(head[mark_bytes:], file.name, source.format) != "jsonl":
                return [file]
            borders = [mark_bytes, *_line_starts(handle, size), size]
    except (OSError, DamagedFile) as error:
        if is_of_machine(error):
            raise
        return [file]  # for its reader to say
    spans = [(start, stop) for start, stop in pairwise(borders) if stop > start]
    return [replace(file, lines=LineSection(start, stop)) for start, stop in spans]


def _line_starts(handle: BinaryIO, size: int) -> Iterator[int]:
    """The first line start at or behind every SECTION_BYTES."""
    for wanted in range(SECTION_BYTES, size, SECTION_BYTES):
        handle.seek(wanted - 1)
        while (found := handle.readline(BLOCK_BYTES)) and not found.endswith(b"\n"):
            pass
        yield handle.tell()


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
        except OSError as error:
            if is_of_machine(error):
                raise
            return 0
    return count


def numbered(files: Sequence[RawFile], counts: Sequence[int]) -> list[RawFile]:
    """Sections of one file, in order, each with the number of lines before it."""
    before = [0, *accumulate(counts)]
    return [
        replace(file, lines=replace(file.lines, lines_before=lines)) if file.lines else file
        for file, lines in zip(files, before)
    ]


def read_lines(handle: BinaryIO, section: LineSection, source: SourceConfig) -> Iterator[Row | Rejected]:
    """The rows of a section of the file `handle`, numbered as in the whole file."""
    handle.seek(section.start)
    window: Any = _Window(handle, section.stop - section.start)
    for row in read_json_lines(window, source):
        yield replace(row, number=row.number + section.lines_before)


class _Window:
    """The lines of the next bytes of a file."""

    def __init__(self, handle: BinaryIO, size_bytes: int) -> None:
        self._handle, self._left = handle, size_bytes

    def readline(self, limit_bytes: int) -> bytes:
        """The next line or the beginning of it, empty at the end."""
        line = self._handle.readline(limit_bytes) if self._left > 0 else b""
        self._left -= len(line)
        return line
