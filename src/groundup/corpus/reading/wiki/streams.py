"""A large dump -> sections that workers read on their own; a section -> verified blocks of plain XML.

    dump.xml.bz2   |stream|stream|stream|stream|...      |: a section begins where the first stream after it begins
    section 0      |-------------|                       of a plain .xml: at any byte
    section 1                    |------------->|

A page belongs to the section in which it begins, so sections may cut pages. Invariant: what a section gives depends on
the file and its own bounds only; nothing of a stream is given before its end and checksum were seen.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from groundup.corpus.reading.compressed import DamagedFile, capped, spool_blocks

MAGIC = b"1AY&SY"
"""What follows `BZh` and a digit where a stream begins (48 bits, the digits of pi)."""
_EMPTY = b"\x17rE8P\x90\0\0\0\0"
_EMPTY_BYTES = 4 + len(_EMPTY)
SECTION_BYTES = {"bz2": 8 << 20, "": 32 << 20}
"""Of the file, by its compression: both about 35 MB of XML."""
_BLOCK_BYTES = 1 << 20
_FEED_BYTES = 1 << 15


@dataclass(frozen=True, order=True)
class Section:
    """A range of a file's bytes, by number from 0."""

    number: int
    start: int
    end: int
    compression: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that belong to it."""
        return self.end - self.start


@dataclass(frozen=True)
class Damage:
    """Bytes between two blocks that cannot be used."""

    reason: str
    detail: str


ANOTHERS_DAMAGE = Damage("", "")
"""The blocks end here, and the section that this belongs to says why."""


def plan_sections(size_bytes: int, compression: str) -> list[Section]:
    """Sections of a file of that size; none when it is too small to be worth it or cannot be cut."""
    each = SECTION_BYTES.get(compression, 0)
    if not each or size_bytes < 2 * each:
        return []
    starts = range(0, size_bytes - each + 1, each)
    ends = [*starts[1:], size_bytes]
    return [Section(i, start, end, compression) for i, (start, end) in enumerate(zip(starts, ends))]


class SectionBlocks:
    """Plain blocks of a section and of what follows. `owned_bytes`: how many bytes belong to it, once known."""

    def __init__(self, handle: BinaryIO, section: Section, folder: Path, limit_bytes: int) -> None:
        self._handle, self._section, self._folder, self._limit_bytes = handle, section, folder, limit_bytes
        self.owned_bytes: int | None = None
        self._given_bytes = 0

    def __iter__(self) -> Iterator[bytes | Damage]:
        if not self._section.compression:
            self.owned_bytes = self._section.size_bytes
            self._handle.seek(self._section.start)
            while block := self._handle.read(_BLOCK_BYTES):
                yield block
            return
        packed_bytes = self._handle.seek(0, 2)
        expected, position = -1, find_stream(self._handle, self._section.start, self._section.end)
        while position is not None:
            if expected not in (-1, position) and self.owned_bytes is None:
                yield Damage("damaged bz2", f"no stream in the bytes from {expected} to {position}")
            if position >= self._section.end and self.owned_bytes is None:
                self.owned_bytes = self._given_bytes
            self._handle.seek(position)
            try:
                plain = spool_blocks(capped(one_stream(self._handle), packed_bytes, self._limit_bytes), self._folder)
                expected = following = _after_empty_streams(self._handle)
            except DamagedFile as damage:
                if self.owned_bytes is not None:
                    yield ANOTHERS_DAMAGE
                    return
                yield Damage(damage.reason, f"stream at byte {position}: {damage.detail}")
                expected, following = -1, position + 1
            else:
                with plain:
                    while block := plain.read(_BLOCK_BYTES):
                        self._given_bytes += len(block)
                        yield block
            position = find_stream(self._handle, following, packed_bytes)
        if expected not in (-1, packed_bytes) and self.owned_bytes is None:
            yield Damage("damaged bz2", f"no stream in the bytes from {expected} on")


def find_stream(handle: BinaryIO, position: int, end: int) -> int | None:
    """Offset of the first bz2 stream that begins at or after `position` and before `end`, None when there is none."""
    handle.seek(position)
    held = b""
    while position < end + len(MAGIC) + 4 and (block := handle.read(_BLOCK_BYTES)):
        data = held + block
        found = data.find(MAGIC)
        while found >= 0:
            if found >= 4 and data[found - 4 : found - 1] == b"BZh" and data[found - 1 : found] in b"123456789":
                start = position - len(held) + found - 4
                return start if start < end else None
            found = data.find(MAGIC, found + 1)
        position += len(block)
        held = data[-len(MAGIC) - 3 :]
    return None


def _after_empty_streams(handle: BinaryIO) -> int:
    """Where `handle` stands once it is moved behind streams that hold nothing, which have no block to look for."""
    position = handle.tell()
    while (data := handle.read(_EMPTY_BYTES))[:3] == b"BZh" and data[4:] == _EMPTY:
        position += _EMPTY_BYTES
    return position


def one_stream(handle: BinaryIO) -> Iterator[bytes]:
    """Blocks of the bz2 stream that begins where `handle` stands, which is left behind its last byte.

    Raises DamagedFile when it is cut or its checksum is wrong.
    """
    decoder = bz2.BZ2Decompressor()
    try:
        while not decoder.eof:
            data = handle.read(_FEED_BYTES) if decoder.needs_input else b""
            if not data and decoder.needs_input:
                raise DamagedFile("truncated bz2", "the file ends inside its compressed stream")
            yield decoder.decompress(data, _BLOCK_BYTES)
    except (OSError, ValueError) as error:
        raise DamagedFile("damaged bz2", str(error)) from None
    handle.seek(-len(decoder.unused_data), 1)
