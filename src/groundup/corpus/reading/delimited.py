"""CSV and TSV -> a row each, its fields by the names in the header, or by number (`#1`) where there is none.

    first lines --delimiter, whether quotes are quotes--> csv.reader --> Row | Rejected

Tables between tabs are mostly written without quoting, so there a `"` is a letter unless the first rows fit only with
quoted fields.

Invariant: a quote that nothing closes costs its own row, not those that it seems to hold; memory is bounded by the
longest field that is accepted.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from groundup.corpus.reading.json_records import BLOCK_BYTES, bounded_lines
from groundup.corpus.reading.records import TOO_LONG, Rejected, Row, columns_hint, needed_fields, written_fields
from groundup.corpus.reading.sources import SourceConfig

_SAMPLE_CHARACTERS = 120
_ROWS_NOT_TEXT = 2
"""Lines in a quoted field that are taken for rows if all are as wide as the header."""
_DELIMITERS = ",;\t|"
_ROWS_TRIED = 200
_NUMBERED = re.compile(r"#[1-9][0-9]{0,5}")
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_EXCEL_DIRECTIVE = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)


@dataclass(frozen=True)
class _Layout:
    """How a file's fields are parted. `skipped_lines`: a line before the header that only says so."""

    delimiter: str
    has_quotes: bool = True
    skipped_lines: int = 0

    def parse(self, lines: Iterator[str]) -> Any:
        """A reader of rows."""
        if self.has_quotes:
            return csv.reader(lines, delimiter=self.delimiter, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, strict=True, quoting=csv.QUOTE_NONE)


def read_csv(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """Quoted line ends and long fields are fine; rows of another width are rejected."""
    csv.field_size_limit(source.max_document_bytes)
    start = handle.tell()
    head = handle.read(BLOCK_BYTES)
    handle.seek(start)
    if b"\r" in head and b"\n" not in head:
        handle = cast(BinaryIO, io.BufferedReader(_LineFeeds(handle)))
        head = head.replace(b"\r", b"\n")
    layout = _layout_of(head.decode("utf-8", "surrogateescape"))
    lines = _Lines(handle, source.max_document_bytes)
    rows = layout.parse(lines)
    try:
        for _ in range(layout.skipped_lines):
            next(lines)
        first: list[str] = next(rows, [])
    except (csv.Error, _LineTooLong) as error:
        yield Rejected("not valid CSV", 0, f"header: {error or TOO_LONG}")
        return
    has_header = not any(map(_NUMBERED.fullmatch, written_fields(source)))
    names = [name.strip() if has_header else f"#{i}" for i, name in enumerate(first, 1)]
    fault = _fault_of_header(names, source)
    if fault:
        yield fault
        return
    number = 0
    if not has_header:
        number = 1
        yield _row(number, names, first, layout.delimiter)
    while True:
        number += 1
        lines.begin_row()
        try:
            fields = next(rows, None)
        except csv.Error as error:
            lines.go_back_to_rows(layout, len(names))
            yield Rejected("not valid CSV", number, f"{error}{lines.span()}")
            continue
        except _LineTooLong:
            yield Rejected(TOO_LONG, 0, f"row {number}; the rest of the file is not read")
            return
        if fields is None:
            return
        if fields:
            yield _row(number, names, fields, layout.delimiter)


def _fault_of_header(names: Sequence[str], source: SourceConfig) -> Rejected | None:
    for name in (*needed_fields(source, names), *(name for name in source.record_keys if name in names)):
        if name not in names:
            return Rejected(
                f"no column '{name}'", 0, f"{columns_hint(list(names), source)}, or '#1' if these are no names"
            )
        if Counter(names)[name] > 1:
            return Rejected(f"two columns '{name}'", 0, "rename one of them in the header")
    return None


def _row(number: int, names: Sequence[str], fields: list[str], delimiter: str) -> Row | Rejected:
    if len(fields) != len(names):
        return Rejected("row with another number of columns", number, f"{len(fields)} instead of {len(names)}")
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return Rejected("not UTF-8 text", number, ascii(delimiter.join(fields))[:_SAMPLE_CHARACTERS])
    return Row(number, dict(zip(names, fields)))


def _layout_of(head: str) -> _Layout:
    """The layout of a file that begins with `head`."""
    said = _EXCEL_DIRECTIVE.match(head)
    if said:
        return _Layout(said[1], skipped_lines=1)
    lines = head.rstrip("\n").split("\n")
    if len(lines) > 1 and len(head.encode("utf-8", "surrogateescape")) == BLOCK_BYTES:  # the last one may be cut
        lines.pop()
    header = _QUOTED.sub("", head).partition("\n")[0]
    layouts = [_quoting(delimiter, lines) for delimiter in _DELIMITERS if delimiter in header]
    if len(layouts) < 2:
        return layouts[0] if layouts else _Layout(",")
    first = lines[:_ROWS_TRIED]
    return min(layouts, key=lambda layout: (_misfits(layout, first), -header.count(layout.delimiter)))


def _quoting(delimiter: str, lines: Sequence[str]) -> _Layout:
    """Between tabs quotes are letters, unless some fields begin with one and the rows fit no better without them."""
    quoted = _Layout(delimiter)
    if delimiter != "\t":
        return quoted
    plain = _Layout(delimiter, has_quotes=False)
    begins_quoted = any(field.startswith('"') for line in lines for field in line.split(delimiter))
    return quoted if begins_quoted and _misfits(quoted, lines) <= _misfits(plain, lines) else plain


def _misfits(layout: _Layout, lines: Sequence[str]) -> int:
    """Rows that are no CSV, or not as wide as the first."""
    rows = layout.parse(iter(lines))
    width = count = 0
    while True:
        try:
            fields = next(rows, None)
        except csv.Error:
            count += 1
            continue
        if fields is None:
            return count
        width = width or len(fields)
        count += bool(fields) and len(fields) != width


class _LineFeeds(io.RawIOBase):
    """A file with the line ends of old Macintoshes, as it would be with ours."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._handle.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class _LineTooLong(Exception):
    pass


class _Lines:
    """Lines of a file for the parser, which can be taken back to the second line of its row."""

    def __init__(self, handle: BinaryIO, limit_bytes: int) -> None:
        self._lines = bounded_lines(handle, limit_bytes)
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._number = self._first = 0
        self._is_over = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
        else:
            _, data = next(self._lines, (0, b""))
            self._is_over = data == b""
            if self._is_over:
                raise StopIteration
            if data is None:
                raise _LineTooLong
            line = data.decode("utf-8", "surrogateescape")
        self._number += 1
        self._row.append(line)
        return line

    def begin_row(self) -> None:
        """What comes is another row."""
        self._row.clear()
        self._first = self._number + 1
        self._is_over = False

    def go_back_to_rows(self, layout: _Layout, width: int) -> None:
        """After a fault: read again what the row seemed to hold where each line of it is a row by itself, which lines
        of a text hardly are all.
        """
        rest = self._row[1:]
        held = rest if self._is_over else rest[:-1]  # the fault stands in the last one
        if len(held) >= _ROWS_NOT_TEXT and width > 1 and all(_width(layout, line) == width for line in held):
            self._again.extendleft(reversed(rest))
            self._number -= len(rest)
            del self._row[1:]

    def span(self) -> str:
        """Where the row stands, for a message."""
        last = self._first + len(self._row) - 1
        return f"; line {self._first}" if last <= self._first else f"; lines {self._first} to {last}"


def _width(layout: _Layout, line: str) -> int:
    try:
        return len(next(layout.parse(iter([line])), []))
    except csv.Error:
        return 0
