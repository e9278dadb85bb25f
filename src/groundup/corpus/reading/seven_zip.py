"""A 7z archive -> its members, through py7zr, unpacked into one temporary file without a name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from groundup.corpus.optional import load
from groundup.corpus.reading.archive_members import Budget, Choose, Member, damaged, reason_by_place, shown_name
from groundup.corpus.reading.compressed import DamagedFile, spool_blocks
from groundup.errors import GroundupError


def seven_zip_members(handle: BinaryIO, choose: Choose, folder: Path, budget: Budget) -> Iterator[Member]:
    """A 7z archive packs files together, so all wanted ones are unpacked in one pass, into one temporary file."""
    py7zr = load("py7zr", "reading 7z archives")
    try:
        with py7zr.SevenZipFile(handle) as archive:
            if archive.needs_password():
                raise DamagedFile("encrypted archive", "unpack it with its password")
            wanted: list[str] = []
            for info in archive.list():
                member = _seven_zip_refusal(info, choose)
                if member is None and not info.is_directory:
                    wanted.append(info.filename)
                elif member is not None:
                    yield member
            unpacked = _Unpacked(folder, budget)
            with unpacked.file:
                archive.extract(targets=wanted, factory=unpacked)
                yield from unpacked.members()
    except (DamagedFile, GroundupError):
        raise
    except Exception as error:  # it has a dozen decoders, each with errors of its own
        raise damaged("7z", error) from None


def _seven_zip_refusal(info: Any, choose: Choose) -> Member | None:
    if info.is_directory:
        return None
    name = shown_name(info.filename)
    reason = reason_by_place(info.filename)
    if not info.is_file:
        reason = reason or "archive member that is no file (link)"
    if reason:
        return Member(name, None, reason, True)
    reason = choose(name)
    return Member(name, None, reason) if reason else None


class _Unpacked:
    """Takes what py7zr unpacks: one member after another in one temporary file. It is a py7zr `WriterFactory`."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.file = spool_blocks(iter(()), folder)
        self._budget = budget
        self._places: list[tuple[str, _Place]] = []

    def create(self, filename: str) -> _Place:
        """A place for the member that py7zr would write to `filename`, a path below the current folder."""
        place = _Place(self.file, self._budget)
        name = PurePosixPath(filename)
        below = name.relative_to(Path.cwd().as_posix()) if name.is_relative_to(Path.cwd().as_posix()) else name
        self._places.append((shown_name(below.as_posix()), place))
        return place

    def members(self) -> Iterator[Member]:
        """All members that came out."""
        for name, place in self._places:
            yield Member(name, cast(BinaryIO, io.BufferedReader(_Window(self.file, place.start, place.length))))


class _Place:
    """Appends one member to the common file; py7zr writes one member at a time. It is a `Py7zIO`."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file, self._budget = file, budget
        self.start, self.length = file.seek(0, 2), 0

    def write(self, data: bytes | bytearray) -> int:
        """Append, counted."""
        self._budget.spend(len(data))
        self.length += len(data)
        return self._file.write(data)

    def read(self, size: int | None = None) -> bytes:
        """Nothing: what was written is read elsewhere."""
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """No effect: writing only appends."""
        return 0

    def flush(self) -> None:
        """No effect."""

    def size(self) -> int:
        """Bytes of this member so far."""
        return self.length

    def close(self) -> None:
        """No effect: the common file stays open."""


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(0, (0, self._position, self._length)[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(0, min(len(buffer), self._length - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
