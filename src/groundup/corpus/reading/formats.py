"""One verified plain file -> rows (a dictionary each) or rejections, format by format.

    handle --READERS[format]--> Row(number, values) | Rejected(reason, number, ...)

To add a format: one function here, one line in READERS, its detection in `detect.py`.

Invariant: a reader never raises for what the file holds; memory is bounded by `max_document_bytes`, whatever the file.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO

from groundup.corpus.reading.arrow import read_arrow, read_parquet
from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.delimited import read_csv
from groundup.corpus.reading.json_records import BLOCK_BYTES, read_json, read_json_lines
from groundup.corpus.reading.pages import PAGE_LIMIT_BYTES, Page, read_page
from groundup.corpus.reading.records import Rejected, Row
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki.articles import read_dump

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
