"""Whether a raw file is a dump that can be read in sections, and which: by its first bytes and its size.

Only local files are cut, since a remote one is fetched as a whole, and only UTF-8, which sections are read as.
"""

from __future__ import annotations

import bz2
import io
from dataclasses import replace
from typing import BinaryIO

from groundup.corpus.reading import detect
from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encodings import declared_in_xml, find_encoding
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki import streams
from groundup.corpus.reading.wiki.streams import plan_sections

_FIRST_STREAM_BYTES = 4 << 20
_FIRST_STREAM_PLAIN_BYTES = 32 << 20
"""A longer first stream, packed or plain, is taken for the only one. That of Wikimedia's dumps has 600 bytes."""
_BLOCK_BYTES = 1 << 20


def in_sections(file: RawFile, source: SourceConfig) -> list[RawFile]:
    """The file's sections as files of their own, or the file itself. What is wrong with it is for its reader to say."""
    if file.remote is not None or source.replaces:
        return [file]
    try:
        if file.path.stat().st_size < 2 * min(streams.SECTION_BYTES.values()):
            return [file]
        with file.path.open("rb") as handle:
            head = handle.read(detect.HEAD_BYTES)
            compression = detect.compression_of(head)
            sections = plan_sections(handle.seek(0, 2), compression)
            if not sections or (compression and not (head := _head_of_streams(handle))):
                return [file]
            if not _is_dump_in_utf8(head, file.name, source):
                return [file]
    except (OSError, DamagedFile):
        return [file]
    return [replace(file, name=f"{file.name}#{section.number}", section=section) for section in sections]


def _is_dump_in_utf8(head: bytes, name: str, source: SourceConfig) -> bool:
    if detect.declared_format_of(head, name, source.format):
        return False
    whole_lines = head[: head.rfind(b"\n") + 1] or head  # a cut character would look like a fault
    encoding, mark_bytes = find_encoding(io.BytesIO(whole_lines), source.encoding_name, declared_in_xml(head))
    return (encoding.name, mark_bytes) == ("UTF-8", 0) and detect.format_of(head, name, source.format) == "mediawiki"


def _head_of_streams(handle: BinaryIO) -> bytes:
    """First plain bytes of a bz2 file with more than one stream, none when there is but one."""
    handle.seek(0)
    data = handle.read(_FIRST_STREAM_BYTES)
    decoder = bz2.BZ2Decompressor()
    head = decoder.decompress(data, detect.HEAD_BYTES)
    for _ in range(_FIRST_STREAM_PLAIN_BYTES // _BLOCK_BYTES):
        if decoder.eof or decoder.needs_input:
            break
        decoder.decompress(b"", _BLOCK_BYTES)
    return head if decoder.eof and decoder.unused_data else b""
