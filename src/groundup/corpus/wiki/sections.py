"""Whether a raw file is a dump that can be read in sections, and which: by its first bytes and its size."""

from __future__ import annotations

import bz2
from dataclasses import replace
from typing import BinaryIO

from groundup.corpus import detect
from groundup.corpus.compressed import DamagedFile
from groundup.corpus.sources import RawFile, SourceConfig
from groundup.corpus.wiki.streams import MAGIC, plan_sections

_FIRST_STREAM_BYTES = 4 << 20
"""A first stream that is longer (packed) is taken for the only one. That of Wikimedia's dumps has 600 bytes."""


def in_sections(file: RawFile, source: SourceConfig) -> list[RawFile]:
    """The file's sections as files of their own, or the file itself. What is wrong with it is for its reader to say."""
    try:
        with file.path.open("rb") as handle:
            head = handle.read(detect.HEAD_BYTES)
            compression = detect.compression_of(head)
            sections = plan_sections(handle.seek(0, 2), compression)
            if not sections or (compression and not (head := _head_of_streams(handle))):
                return [file]
            if (
                detect.encoding_of(head) != ("utf-8", 0)
                or detect.format_of(head, file.name, source.format) != "mediawiki"
            ):
                return [file]
    except (OSError, DamagedFile):
        return [file]
    return [replace(file, name=f"{file.name}#{section.number}", section=section) for section in sections]


def _head_of_streams(handle: BinaryIO) -> bytes:
    """First plain bytes of a bz2 file with more than one stream, none when there is but one."""
    handle.seek(0)
    data = handle.read(_FIRST_STREAM_BYTES)
    decoder = bz2.BZ2Decompressor()
    head = decoder.decompress(data, detect.HEAD_BYTES)
    while not decoder.eof and not decoder.needs_input:
        decoder.decompress(b"", 1 << 20)
    return head if decoder.eof and decoder.unused_data[4:10] == MAGIC else b""
