"""JSON lines, and JSON of any layout -> an object each, without ever holding more than one record.

    one object a line                            a line that is no object is rejected by itself
    [{...}, {...}]   {...} {...}   {"data": [...]}   cut at the ends of the outer elements by counting brackets

Invariant: memory is bounded by twice `max_document_bytes`, and no record raises, however deep or damaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from groundup.corpus.reading.records import TOO_LONG, Rejected, Row, needed_fields
from groundup.corpus.reading.sources import SourceConfig

BLOCK_BYTES = 1 << 20
_SAMPLE_BYTES = 120
_WRAPPED_DEPTH = 3
_REMEDY = "raise max_document_bytes, or write one object a line"


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
        parse_object(element, number, cut=not whole) if element is not None else Rejected(TOO_LONG, number, _REMEDY)
        for number, (element, whole) in enumerate(_elements(handle, 2 * source.max_document_bytes), 1)
    )
    first, second = next(rows, None), next(rows, None)
    alone = isinstance(first, Row) and second is None and not is_array
    if alone and isinstance(first, Row) and not _has_fields(first.values, source):
        yield from _inner_rows(first, source)
        return
    yield from (row for row in (first, second) if row is not None)
    yield from rows


def _has_fields(value: Any, source: SourceConfig) -> bool:
    if not isinstance(value, dict):
        return False
    if source.record_keys:
        return any(name in value for name in source.record_keys)
    return all(name in value for name in needed_fields(source, value))


def _inner_rows(row: Row, source: SourceConfig) -> Iterator[Row | Rejected]:
    """Rows of the list of objects, or of the objects by name, that another object wraps, as in `{"data": [...]}`: the
    only one whose first has the text, else the only one; else the row itself.
    """
    found = list(_collections(row.values, _WRAPPED_DEPTH))
    lists = [value for value in found if isinstance(value, list)]
    fitting = [value for value in found if _has_fields(_first(value), source)] or lists
    if len(fitting) != 1:
        yield row
        return
    values = fitting[0] if isinstance(fitting[0], list) else fitting[0].values()
    for number, value in enumerate(values, 1):
        whole = isinstance(value, dict)
        yield Row(number, value) if whole else Rejected("not a JSON object", number, str(value)[:_SAMPLE_BYTES])


def _collections(value: dict[str, Any], depth: int) -> Iterator[list[Any] | dict[str, Any]]:
    """Lists that begin with an object, and objects of objects, at most `depth` levels down."""
    if len(value) > 1 and all(isinstance(one, dict) for one in value.values()):
        yield value
    for one in value.values():
        if isinstance(one, list) and one and isinstance(one[0], dict):
            yield one
        elif isinstance(one, dict) and depth > 1:
            yield from _collections(one, depth - 1)


def _first(collection: list[Any] | dict[str, Any]) -> Any:
    return collection[0] if isinstance(collection, list) else next(iter(collection.values()))


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
