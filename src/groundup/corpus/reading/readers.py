"""A raw file -> documents, each record accepted or rejected with a reason.

    file -> compression (magic) -> verified plain bytes -> archive? -> each member in the same way
                                                        -> encoding -> UTF-8 -> format (content) -> rows -> documents
    section of a large dump, or of a large file of lines -> its own reader -----------------------> rows -> documents

Invariant: every record of a file comes out exactly once, as a Document or as part of a Rejected; nothing that a file
holds raises, and nothing of a compressed file comes out before it (of a WARC file: the record) was verified.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from groundup.corpus.documents import Document
from groundup.corpus.reading import archives, compressed, detect, warc
from groundup.corpus.reading.compressed import DamagedFile, is_of_machine
from groundup.corpus.reading.detect import Detected
from groundup.corpus.reading.encoding_names import UTF_8
from groundup.corpus.reading.encodings import Transcoder, declared_in_xml, find_encoding
from groundup.corpus.reading.files import RawFile, find_files, named_fault, resolve_path
from groundup.corpus.reading.formats import READERS, page_row
from groundup.corpus.reading.hub import fetched
from groundup.corpus.reading.json_records import BLOCK_BYTES
from groundup.corpus.reading.line_sections import read_lines
from groundup.corpus.reading.pages import PAGE_LIMIT_BYTES, Page, decode_page, read_page
from groundup.corpus.reading.records import Rejected, Row, to_document
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki.articles import read_section

__all__ = ["Document", "Reading", "Rejected", "SourceConfig", "find_files", "resolve_path"]

_KINDS_SHOWN = 6


class Reading:
    """One pass over one file: iterate for its records; `detected` is complete once all records came out."""

    def __init__(self, file: RawFile, source: SourceConfig, spool_folder: Path) -> None:
        self.file, self.source, self._spool_folder = file, source, spool_folder
        self.detected: Detected | None = None
        self.continues = False
        """Whether the last record is a further piece of the text of the one before."""

    def __iter__(self) -> Generator[Document | Rejected, None, None]:
        """Documents and rejections in the order of the file."""
        for row in self.rows():
            self.continues = isinstance(row, Row) and row.continues
            record = to_document(row, self.source, self.file.name) if isinstance(row, Row) else row
            if isinstance(row, Row) and isinstance(record, Rejected) and row.member:
                record = replace(record, member=row.member)
            yield record

    def rows(self) -> Iterator[Row | Rejected]:
        """Records as dictionaries, before a text field is looked for: for readers of other record types."""
        with ExitStack() as stack:
            try:
                path = stack.enter_context(fetched(self.file, self._spool_folder))
                handle: BinaryIO = stack.enter_context(_open_regular(path))
                section, lines = self.file.section, self.file.lines
                if section is not None:
                    self.detected = Detected("mediawiki", section.compression)
                    yield from read_section(handle, section, self.source, self._spool_folder)
                elif lines is not None:
                    self.detected = Detected("jsonl")
                    yield from read_lines(handle, lines, self.source)
                else:
                    yield from self._whole(handle, stack)
            except DamagedFile as error:
                yield Rejected(error.reason, 0, error.detail)
            except OSError as error:
                if is_of_machine(error):
                    raise named_fault(error, self.file.path) from error
                yield Rejected("not readable", 0, os.strerror(error.errno or 0))

    def _whole(self, handle: BinaryIO, stack: ExitStack) -> Iterator[Row | Rejected]:
        handle, compression = self._unpacked(handle, stack)
        kind = detect.archive_of(_head(handle))
        if kind:
            yield from self._archive(kind, handle, compression)
        elif warc.begins_warc(handle, compression):
            yield from self._warc(handle, compression)
        else:
            handle, self.detected = self._plain(handle, self.file.name, compression, stack)
            for row in READERS[self.detected.format](handle, self.source):
                self.detected = _with_page_encoding(self.detected, row)
                yield row

    def _unpacked(self, handle: BinaryIO, stack: ExitStack) -> tuple[BinaryIO, str]:
        """The verified plain bytes of a compressed file, and how it was compressed; WARC files stay packed."""
        compression = detect.compression_of(_head(handle, 16))
        if not compression or (compression == "gzip" and warc.begins_warc(handle, compression)):
            return handle, compression
        limit_bytes = self.source.max_expanded_bytes
        return stack.enter_context(compressed.spool(handle, compression, self._spool_folder, limit_bytes)), compression

    def _plain(self, handle: BinaryIO, name: str, compression: str, stack: ExitStack) -> tuple[BinaryIO, Detected]:
        """UTF-8 (or binary) bytes, standing behind any byte order mark, and what they are."""
        source = self.source
        start = _head(handle)
        kind = detect.declared_format_of(start, name, source.format)
        if kind:
            return handle, Detected(kind, compression)
        encoding, mark_bytes = find_encoding(handle, source.encoding_name, declared_in_xml(start))
        handle.seek(mark_bytes)
        note = ""
        if encoding.name != "UTF-8" or source.replaces:
            transcoder = Transcoder(handle, encoding, source.replaces)
            handle = stack.enter_context(compressed.spool_blocks(transcoder.blocks(), self._spool_folder))
            mark_bytes = 0
            note = f"{transcoder.replaced} faults replaced" if transcoder.replaced else ""
        head = handle.read(detect.HEAD_BYTES)
        handle.seek(mark_bytes)
        return handle, Detected(detect.format_of(head, name, source.format), compression, encoding, note)

    def _archive(self, kind: str, handle: BinaryIO, compression: str) -> Iterator[Row | Rejected]:
        """Records of all members; `detected` says how many were of which kind and how many were not read."""
        contents: Counter[str] = Counter()
        limit_bytes = self.source.max_expanded_bytes
        try:
            for member in archives.members(kind, handle, self.source.choose, self._spool_folder, limit_bytes):
                if member.handle is not None:
                    yield from self._member(member.name, member.handle, contents)
                elif member.refused:
                    contents["refused"] += 1
                    yield Rejected(member.reason, 0, member.name, member=member.name)
                else:
                    contents[f"not read ({member.reason})"] += 1
        finally:
            self.detected = Detected(kind, compression, UTF_8, _counted(contents))

    def _member(self, name: str, handle: BinaryIO, contents: Counter[str]) -> Iterator[Row | Rejected]:
        with ExitStack() as stack:
            try:
                handle, compression = self._unpacked(handle, stack)
                if warc.begins_warc(handle, compression):
                    detected = Detected("warc", compression)
                    rows = self._pages(handle, compression, Counter())
                else:
                    handle, detected = self._plain(handle, name, compression, stack)
                    if detected.format == "arrow":  # it is mapped from a file of its own
                        blocks = iter(partial(handle.read, BLOCK_BYTES), b"")
                        handle = stack.enter_context(compressed.spool_blocks(blocks, self._spool_folder))
                    rows = READERS[detected.format](handle, self.source)
                for row in rows:
                    detected = _with_page_encoding(detected, row)
                    yield replace(row, member=name) if isinstance(row, Row) else _of_member(row, name)
                contents[str(detected)] += 1
            except DamagedFile as error:
                contents["rejected"] += 1
                yield Rejected(error.reason, 0, f"{name}: {error.detail}", member=name)

    def _warc(self, handle: BinaryIO, compression: str) -> Iterator[Row | Rejected]:
        contents: Counter[str] = Counter()
        try:
            yield from self._pages(handle, compression, contents)
        finally:
            self.detected = Detected("warc", compression, UTF_8, _counted(contents))

    def _pages(self, handle: BinaryIO, compression: str, contents: Counter[str]) -> Iterator[Row | Rejected]:
        """One row or rejection a WARC record."""
        source = self.source
        limits = (source.max_expanded_bytes, min(PAGE_LIMIT_BYTES, source.max_document_bytes))
        for number, record in enumerate(warc.read_warc(handle, compression, self._spool_folder, *limits), 1):
            if isinstance(record, warc.NoPage):
                yield Rejected(record.reason, number, record.detail)
                continue
            asked = (record.charset, source.encoding_name, source.replaces)
            try:
                if record.kind == "html":
                    page = read_page(record.data, source.extractor, source.comments, *asked)
                else:
                    text, encoding = decode_page(record.data, *asked)
                    page = Page(text.strip(), "", "", encoding)
            except DamagedFile as error:
                yield Rejected(error.reason, number, f"{error.detail}: {record.url}")
                continue
            contents[str(page.encoding)] += 1
            yield page_row(number, page, source, id=record.record_id, url=record.url, date=record.date)


def _with_page_encoding(detected: Detected, row: Row | Rejected) -> Detected:
    """An HTML file's encoding is known once its page was read."""
    if detected.format != "html" or isinstance(row, Rejected):
        return detected
    return replace(detected, contents=str(row.values["encoding"]))


def _of_member(rejected: Rejected, name: str) -> Rejected:
    return replace(rejected, sample=f"{name}: {rejected.sample}".removesuffix(": "), member=name)


def _counted(contents: Counter[str]) -> str:
    """ "3 x JSON lines, 1 x plain text", the most frequent first."""
    shown = sorted(contents.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in shown[_KINDS_SHOWN:])
    listed = [f"{count} x {what}" for what, count in shown[:_KINDS_SHOWN]]
    return ", ".join(listed + ([f"{rest} x other"] if rest else []))


def _head(handle: BinaryIO, size: int = detect.HEAD_BYTES) -> bytes:
    """The first bytes of a file, which stands at its beginning before and after."""
    head = handle.read(size)
    handle.seek(0)
    return head


def _open_regular(path: Path) -> BinaryIO:
    """Open for reading; never blocks on a pipe that took the place of a file meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFile("not a regular file")
    return os.fdopen(descriptor, "rb", buffering=1 << 17)
