"""A raw file -> documents, each record accepted or rejected with a reason.

    file -> compression (magic) -> verified plain bytes -> UTF-8 -> format (content) -> rows -> Document | Rejected

Invariant: every record of a file comes out exactly once, as a Document or as part of a Rejected; nothing that a file
holds raises, and nothing of a compressed file comes out before the whole of it was verified.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from groundup.corpus import compressed, detect
from groundup.corpus.compressed import DamagedFile
from groundup.corpus.detect import Detected
from groundup.corpus.documents import Document
from groundup.corpus.formats import BLOCK_BYTES, READERS, TOO_LONG, Rejected, Row, columns_hint
from groundup.corpus.seven_zip import spool_7z
from groundup.corpus.sources import RawFile, SourceConfig, find_files, resolve_path
from groundup.corpus.wiki.articles import read_dump, read_section

__all__ = ["Document", "Reading", "Rejected", "SourceConfig", "find_files", "resolve_path"]

_READERS = {**READERS, "mediawiki": read_dump}
_METADATA_LIMIT = 1000
_MACHINE_FAULTS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EFBIG")
}
"""Not the file's fault: these stop the run, so that it can go on where it was once they are mended."""


class Reading:
    """One pass over one file: iterate for its records; `detected` is known once the first record came out."""

    def __init__(self, file: RawFile, source: SourceConfig, spool_folder: Path) -> None:
        self.file, self.source, self._spool_folder = file, source, spool_folder
        self.detected: Detected | None = None

    def __iter__(self) -> Iterator[Document | Rejected]:
        """Documents and rejections in the order of the file."""
        for row in self.rows():
            yield to_document(row, self.source, self.file.name) if isinstance(row, Row) else row

    def rows(self) -> Iterator[Row | Rejected]:
        """Records as dictionaries, before a text field is looked for: for readers of other record types."""
        with ExitStack() as stack:
            try:
                section = self.file.section
                if section is not None:
                    handle = stack.enter_context(_open_regular(self.file.path))
                    self.detected = Detected("mediawiki", section.compression)
                    yield from read_section(handle, section, self.source, self._spool_folder)
                    return
                handle, self.detected = _open(self.file, self.source, self._spool_folder, stack)
                yield from _READERS[self.detected.format](handle, self.source)
            except DamagedFile as error:
                yield Rejected(error.reason, 0, error.detail)
            except OSError as error:
                if error.errno in _MACHINE_FAULTS:
                    raise
                yield Rejected("not readable", 0, os.strerror(error.errno or 0))


def _open(file: RawFile, source: SourceConfig, spool_folder: Path, stack: ExitStack) -> tuple[BinaryIO, Detected]:
    """Verified UTF-8 (or Parquet) bytes of a file, standing behind any byte order mark, and what they are."""
    handle: BinaryIO = stack.enter_context(_open_regular(file.path))
    compression = detect.compression_of(handle.read(16))
    handle.seek(0)
    if compression == "7z":
        handle = stack.enter_context(spool_7z(handle, spool_folder, source.max_expanded_bytes))
    elif compression:
        handle = stack.enter_context(compressed.spool(handle, compression, spool_folder, source.max_expanded_bytes))
    encoding, mark_bytes = detect.encoding_of(handle.read(detect.DECLARATION_BYTES))
    handle.seek(mark_bytes)
    if encoding != "utf-8":
        handle = stack.enter_context(compressed.spool_blocks(_transcoded(handle, encoding), spool_folder))
        mark_bytes = 0
    head = handle.read(detect.HEAD_BYTES)
    handle.seek(mark_bytes)
    return handle, Detected(detect.format_of(head, file.name, source.format), compression, encoding)


def _open_regular(path: Path) -> BinaryIO:
    """Open for reading; never blocks on a pipe that took the place of a file meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFile("not a regular file")
    return os.fdopen(descriptor, "rb", buffering=1 << 17)


def _transcoded(handle: BinaryIO, encoding: str) -> Iterator[bytes]:
    """UTF-8 blocks of a file in another encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    while True:
        block = handle.read(BLOCK_BYTES)
        try:
            yield decoder.decode(block, final=not block).encode()
        except UnicodeError as error:
            raise DamagedFile(f"damaged {encoding.upper()} text", str(error)[-80:]) from None
        if not block:
            return


def to_document(row: Row, source: SourceConfig, file_name: str) -> Document | Rejected:
    """The document of one row, or why it is none: no, empty, non-string, not encodable or too long text."""
    if source.text_field not in row.values:
        return Rejected(f"no field '{source.text_field}'", row.number, columns_hint([str(key) for key in row.values]))
    text = row.values[source.text_field]
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return Rejected("text is not a string", row.number, f"it is {kind}: {str(text)[:60]}")
    if not text or text.isspace():
        return Rejected("empty text", row.number)
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        return Rejected("lone surrogate (no character)", row.number, f"at character {error.start}: {around}")
    if size_bytes > source.max_document_bytes:
        return Rejected(TOO_LONG, row.number, f"{size_bytes} bytes: {text[:60]}")
    return Document(f"{file_name}:{row.number}", text, source.name, _metadata(row, source))


def _metadata(row: Row, source: SourceConfig) -> dict[str, Any]:
    """Plain and finite values of the wanted fields; long strings are cut."""
    kept: dict[str, Any] = {}
    for name in (*row.kept, *source.metadata_fields):
        value = row.values.get(name)
        if isinstance(value, str):
            kept[name] = value.encode("utf-8", "replace").decode()[:_METADATA_LIMIT]
        elif isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
            kept[name] = value
    return kept
