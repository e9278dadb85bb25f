"""One verified plain file -> rows (a dictionary each) or rejections, format by format.

    handle --READERS[format]--> Row(number, values) | Rejected(reason, number, ...)

To add a format: one function here, one line in READERS, its detection in `detect.py`.

Invariant: a reader never raises for what the file holds; memory is bounded by `max_document_bytes`, whatever the file.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from groundup.corpus.arrow import read_arrow, read_parquet
from groundup.corpus.compressed import DamagedFile
from groundup.corpus.pages import PAGE_LIMIT_BYTES, Page, read_page
from groundup.corpus.records import TOO_LONG, Rejected, Row, columns_hint, needed_fields
from groundup.corpus.sources import SourceConfig
from groundup.corpus.wiki.articles import read_dump

BLOCK_BYTES = 1 << 20
_SAMPLE_BYTES = 120

RowReader = Callable[[BinaryIO, SourceConfig], Iterator[Row | Rejected]]


def read_text(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """The whole file as one row; above `max_document_bytes` several, cut at paragraphs where there are any."""
    start = handle.tell()
    fault = first_invalid_byte(handle)
    if fault is not None:
        yield Rejected("not UTF-8 text", 0, f"invalid at byte {start + fault}; save it as UTF-8")
        return
    handle.seek(start)
    for number, piece in enumerate(_pieces(handle, source.max_document_bytes), 1):
        yield Row(number, {source.text_field: piece.decode()}, continues=number > 1)


def first_invalid_byte(handle: BinaryIO) -> int | None:
    """Offset (from where `handle` stands) of the first byte that is not UTF-8, or None; reads to the end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    while True:
        block = handle.read(BLOCK_BYTES)
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            return offset - held + error.start
        if not block:
            return None
        offset += len(block)


def _pieces(handle: BinaryIO, limit_bytes: int) -> Iterator[bytes]:
    """Valid UTF-8 in pieces of at most `limit_bytes`, together the whole file."""
    buffer = handle.read(limit_bytes + 1)
    while len(buffer) > limit_bytes:
        cut = _cut(buffer, limit_bytes)
        yield buffer[:cut]
        buffer = buffer[cut:]
        buffer += handle.read(limit_bytes + 1 - len(buffer))
    if buffer:
        yield buffer


def _cut(buffer: bytes, limit_bytes: int) -> int:
    """Where to cut: behind the last blank line of the second half, else a line end, a space, or any character."""
    for mark in (b"\n\n", b"\n\r\n", b"\n", b" "):
        found = buffer.rfind(mark, limit_bytes // 2, limit_bytes)
        if found >= 0:
            return found + len(mark)
    cut = limit_bytes
    while buffer[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def bounded_lines(handle: BinaryIO, limit_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """(line number, line with its end); None in place of a line longer than `limit_bytes`. Splits at LF only."""
    number = 0
    while line := handle.readline(limit_bytes):
        number += 1
        if len(line) < limit_bytes or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := handle.readline(BLOCK_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, None


def read_json_lines(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """One JSON object a line; blank lines are nothing, everything else that is no object is rejected by line."""
    for number, line in bounded_lines(handle, 2 * source.max_document_bytes):
        if line is None:
            yield Rejected(TOO_LONG, number)
        elif line.strip():
            yield parse_object(line, number, cut=not line.endswith(b"\n"))


def read_json(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """A JSON array of objects, one object, several in a row, or `{"data": [objects]}`; streamed object by object."""
    start = handle.tell()
    is_array = handle.read(BLOCK_BYTES).lstrip()[:1] == b"["
    handle.seek(start)
    rows = (
        parse_object(element, number, cut=not whole) if element is not None else Rejected(TOO_LONG, number)
        for number, (element, whole) in enumerate(_elements(handle, 2 * source.max_document_bytes), 1)
    )
    first, second = next(rows, None), next(rows, None)
    alone = isinstance(first, Row) and second is None and not is_array
    if alone and isinstance(first, Row) and not any(name in first.values for name in needed_fields(source)):
        yield from _inner_rows(first)
        return
    yield from (row for row in (first, second) if row is not None)
    yield from rows


def _inner_rows(row: Row) -> Iterator[Row | Rejected]:
    """Rows of the only list of objects in an object that wraps them, as in `{"data": [...]}`; else the row itself."""
    lists = [value for value in row.values.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) != 1:
        yield row
        return
    for number, value in enumerate(lists[0], 1):
        whole = isinstance(value, dict)
        yield Row(number, value) if whole else Rejected("not a JSON object", number, str(value)[:_SAMPLE_BYTES])


def parse_object(data: bytes, number: int, cut: bool) -> Row | Rejected:
    """One JSON object from its bytes. `cut`: nothing ended it, so a fault is put down to truncation."""
    sample = data[:_SAMPLE_BYTES].decode("utf-8", "replace")
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as error:
        return Rejected("not UTF-8 text", number, f"byte {error.start} of the record")
    except RecursionError:
        return Rejected("nested too deeply", number, sample)
    except ValueError as error:
        if not data.strip(b"\0 \t\r\n"):
            return Rejected("a block of NUL bytes", number, f"{len(data)} bytes")
        return Rejected("truncated JSON" if cut else "not valid JSON", number, f"{str(error)[:60]}: {sample}")
    return Row(number, value) if isinstance(value, dict) else Rejected("not a JSON object", number, sample)


_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')


def _elements(handle: BinaryIO, limit_bytes: int) -> Iterator[tuple[bytes | None, bool]]:
    """(bytes, properly ended) of each element of a top-level array or each top-level object; None: too long."""
    scanner = _Scanner(limit_bytes)
    while block := handle.read(BLOCK_BYTES):
        yield from scanner.feed(block)
    yield from scanner.finish()


class _Scanner:
    """Cuts JSON at the ends of its outer elements by counting brackets outside strings; keeps one element in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._element = bytearray()
        self._too_long = False
        self._depth = 0
        self._base = 0
        self._in_string = False
        self._skip = 0

    def feed(self, block: bytes) -> Iterator[tuple[bytes | None, bool]]:
        """Elements that end in this block."""
        start, position = 0, self._skip
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(block, position):
            mark, position = match[0], match.end()
            if mark == b"\\":
                position += 1
            elif mark == b'"':
                self._in_string = not self._in_string
            elif (
                mark == b"["
                and self._depth == 0
                and not self._element.strip()
                and not block[start : match.start()].strip()
            ):
                self._base = self._depth = 1
                start = position
            elif mark in b"[{":
                self._depth += 1
            elif mark == b",":
                if self._depth == self._base == 1:
                    yield from self._end(block[start : match.start()], True)
                    start = position
            else:
                self._depth = max(0, self._depth - 1)
                if self._depth == 0:
                    yield from self._end(block[start : match.start() if self._base else position], True)
                    start, self._base = position, 0
        self._skip = max(0, position - len(block))
        self._add(block[start:])

    def finish(self) -> Iterator[tuple[bytes | None, bool]]:
        """What is left at the end of the file: an element that nothing ended."""
        yield from self._end(b"", False)

    def _add(self, data: bytes) -> None:
        if self._too_long or len(self._element) + len(data) > self._limit_bytes:
            self._too_long = True
            self._element.clear()
        else:
            self._element += data

    def _end(self, data: bytes, whole: bool) -> Iterator[tuple[bytes | None, bool]]:
        self._add(data)
        element = bytes(self._element)
        if self._too_long:
            yield None, whole
        elif element.strip():
            yield element, whole
        self._element.clear()
        self._too_long = False


def read_csv(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """CSV or TSV with a header; quoted line ends and long fields are fine, rows of another width are rejected."""
    csv.field_size_limit(source.max_document_bytes)
    header = handle.readline(BLOCK_BYTES).decode("utf-8", "surrogateescape")
    delimiter = max(",;\t|", key=header.count)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        yield Rejected("not valid CSV", 0, f"header: {error}")
        return
    missing = next((name for name in needed_fields(source) if name not in names), None)
    if missing is not None:
        yield Rejected(f"no column '{missing}'", 0, columns_hint(names))
        return
    rows = csv.reader(_csv_lines(handle, source.max_document_bytes), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        try:
            fields = next(rows, None)
        except csv.Error as error:
            yield Rejected("not valid CSV", number, str(error))
            continue
        except _LineTooLong:
            yield Rejected(TOO_LONG, 0, f"row {number}; the rest of the file is not read")
            return
        if fields is None:
            return
        if fields and len(fields) != len(names):
            yield Rejected("row with another number of columns", number, f"{len(fields)} instead of {len(names)}")
        elif fields and _has_stray_bytes(fields):
            yield Rejected("not UTF-8 text", number, ascii(delimiter.join(fields))[:_SAMPLE_BYTES])
        elif fields:
            yield Row(number, dict(zip(names, fields)))


class _LineTooLong(Exception):
    pass


def _csv_lines(handle: BinaryIO, limit_bytes: int) -> Iterator[str]:
    for _, line in bounded_lines(handle, limit_bytes):
        if line is None:
            raise _LineTooLong
        yield line.decode("utf-8", "surrogateescape")


def _has_stray_bytes(fields: list[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return True
    return False


def read_html(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """The main text of one HTML page, with its title and language."""
    try:
        data = handle.read(PAGE_LIMIT_BYTES + 1)
        page = read_page(data, source.extractor, source.comments, "", source.encoding_name, source.replaces)
    except DamagedFile as error:
        yield Rejected(error.reason, 1, error.detail)
        return
    yield page_row(1, page, source)


def page_row(number: int, page: Page, source: SourceConfig, **more: str) -> Row | Rejected:
    """The row of a page: its text in `text_field`, and beside it title, language, encoding and `more`."""
    if not page.text:
        return Rejected("page without a main text", number, more.get("url") or page.title[:_SAMPLE_BYTES])
    about = {"title": page.title, "language": page.language, "encoding": str(page.encoding), **more}
    return Row(number, {**about, source.text_field: page.text})


READERS: dict[str, RowReader] = {
    "text": read_text,
    "jsonl": read_json_lines,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "html": read_html,
    "mediawiki": read_dump,
}
