"""A tar, zip or 7z archive -> its members, each as a readable file, or the reason why it is not read.

    handle --READERS[kind]--> Member(name, handle) | Member(name, reason)

Nothing is ever written under a member's name: what has to be unpacked goes to a temporary file without one. Names that
point outside, links, devices, pipes and encrypted members are refused all the same, since no honest archive of text
has them and their text would not be what the archive shows.

Invariant: what all members of an archive expand to is bounded by the limit, and by RATIO_LIMIT times the archive; a
member's checksum, where the format has one, was verified before any of it is given.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from groundup.corpus.compressed import RATIO_FREE_BYTES, RATIO_LIMIT, DamagedFile, spool_blocks
from groundup.corpus.optional import load
from groundup.errors import printable

_BLOCK_BYTES = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
_ENCRYPTED = 0x1
_FAULTS = (
    OSError,
    lzma.LZMAError,
    ValueError,
    EOFError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What the standard library's and py7zr's parsers raise on bytes that are not as they should be."""


@dataclass(frozen=True)
class Member:
    """One member: `handle` to read it, or None and the `reason`; `refused` when it is no honest member."""

    name: str
    handle: BinaryIO | None = None
    reason: str = ""
    refused: bool = False


Choose = Callable[[str], str]
"""Name of a member -> "" to read it, or the reason why not."""


class _Budget:
    """Counts what comes out of an archive. Raises DamagedFile when it is more than allowed."""

    def __init__(self, packed_bytes: int, limit_bytes: int) -> None:
        self._packed_bytes, self._limit_bytes, self._spent = packed_bytes, limit_bytes, 0

    def spend(self, size: int) -> None:
        """`size` more bytes came out."""
        self._spent += size
        if self._spent > self._limit_bytes:
            raise DamagedFile("expands too far", f"more than max_expanded_bytes = {self._limit_bytes}")
        if self._spent > RATIO_FREE_BYTES and self._spent > RATIO_LIMIT * self._packed_bytes:
            raise DamagedFile("expands too far", f"{self._packed_bytes} bytes to more than {self._spent}: a bomb?")

    def blocks(self, stream: Any) -> Iterator[bytes]:
        """All blocks of a stream, counted."""
        while block := stream.read(_BLOCK_BYTES):
            self.spend(len(block))
            yield block


def members(kind: str, handle: BinaryIO, choose: Choose, folder: Path, limit_bytes: int) -> Iterator[Member]:
    """Members of a "tar", "zip" or "7z" archive in its order; each handle is good until the next is asked for.

    `folder` takes temporary files. Raises DamagedFile when the archive itself is damaged or a bomb; members given
    before are sound.
    """
    packed_bytes = handle.seek(0, 2)
    handle.seek(0)
    budget = _Budget(packed_bytes, limit_bytes)
    used: dict[str, int] = {}
    for member in _READERS[kind](handle, choose, folder, budget):
        count = used[member.name] = used.get(member.name, 0) + 1
        name = member.name if count == 1 else f"{member.name}#{count}"
        yield Member(name, member.handle, member.reason, member.refused)


def _unsafe(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or _DRIVE.match(name) or "\0" in name
    return "archive member with a name outside the archive" if outside else ""


def _shown(name: str) -> str:
    return printable(PurePosixPath(name).as_posix()).replace("\n", "\\n")


def _damaged(kind: str, error: Exception) -> Exception:
    """What to raise instead; a fault of the machine, such as a full disk, stays what it is."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return DamagedFile(f"damaged {kind} archive", f"{type(error).__name__}: {error}"[:120])


def _tar_members(handle: BinaryIO, choose: Choose, folder: Path, budget: _Budget) -> Iterator[Member]:
    size_bytes = handle.seek(0, 2)
    handle.seek(0)
    try:
        with tarfile.open(fileobj=handle, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while info := archive.next():
                cast(Any, archive).members = []  # it would keep them all
                if not info.isdir():
                    yield _tar_member(archive, info, choose, budget, size_bytes)
            _require_end(handle, archive.offset)
    except (tarfile.TarError, *_FAULTS) as error:
        raise _damaged("tar", error) from None


def _require_end(handle: BinaryIO, offset: int) -> None:
    """Where `tarfile` takes no more members for the end there must be the end mark: it is silent on damaged headers."""
    handle.seek(offset)
    block = handle.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise DamagedFile("truncated tar", f"its end mark is missing at byte {offset}")
    if block.strip(b"\0"):
        raise DamagedFile("damaged tar archive", f"no header at byte {offset}; the rest is not read")


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, choose: Choose, budget: _Budget, size_bytes: int
) -> Member:
    name = _shown(info.name)
    reason = _unsafe(info.name)
    if not info.isreg() or info.issparse():
        kind = "link" if info.issym() or info.islnk() else "device, pipe or sparse file"
        reason = reason or f"archive member that is no file ({kind})"
    if reason:
        return Member(name, None, reason, True)
    reason = choose(name)
    if reason:
        return Member(name, None, reason)
    if info.offset_data + info.size > size_bytes:
        raise DamagedFile("truncated tar", f"it ends inside {name[:60]}")
    budget.spend(info.size)
    return Member(name, cast(BinaryIO, archive.extractfile(info)))


def _zip_members(handle: BinaryIO, choose: Choose, folder: Path, budget: _Budget) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(handle) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield from _zip_member(archive, info, choose, folder, budget)
    except (zipfile.BadZipFile, *_FAULTS) as error:
        raise _damaged("zip", error) from None


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, choose: Choose, folder: Path, budget: _Budget
) -> Iterator[Member]:
    name = _shown(info.filename)
    reason = _unsafe(info.orig_filename)
    if info.external_attr >> 16 & 0o170000 == 0o120000:
        reason = reason or "archive member that is no file (link)"
    if info.flag_bits & _ENCRYPTED:
        reason = reason or "encrypted archive member"
    if reason:
        yield Member(name, None, reason, True)
        return
    reason = choose(name)
    if reason:
        yield Member(name, None, reason)
        return
    try:
        with archive.open(info) as stream:
            plain = spool_blocks(budget.blocks(stream), folder)
    except (zipfile.BadZipFile, *_FAULTS) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Member(name, None, _zip_fault(error), True)
        return
    with plain:
        yield Member(name, plain)


def _zip_fault(error: Exception) -> str:
    if "CRC" in str(error):
        return "archive member with a wrong checksum"
    unknown = isinstance(error, NotImplementedError)
    return "archive member in an unknown compression" if unknown else "damaged archive member"


def _seven_zip_members(handle: BinaryIO, choose: Choose, folder: Path, budget: _Budget) -> Iterator[Member]:
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
    except DamagedFile:
        raise
    except Exception as error:  # it has a dozen decoders, each with errors of its own
        raise _damaged("7z", error) from None


def _seven_zip_refusal(info: Any, choose: Choose) -> Member | None:
    if info.is_directory:
        return None
    name = _shown(info.filename)
    reason = _unsafe(info.filename)
    if not info.is_file:
        reason = reason or "archive member that is no file (link)"
    if reason:
        return Member(name, None, reason, True)
    reason = choose(name)
    return Member(name, None, reason) if reason else None


class _Unpacked:
    """Takes what py7zr unpacks: one member after another in one temporary file. It is a py7zr `WriterFactory`."""

    def __init__(self, folder: Path, budget: _Budget) -> None:
        self.file = spool_blocks(iter(()), folder)
        self._budget = budget
        self._places: list[tuple[str, _Place]] = []

    def create(self, filename: str) -> _Place:
        """A place for the member that py7zr would write to `filename`, a path below the current folder."""
        place = _Place(self.file, self._budget)
        name = PurePosixPath(filename)
        below = name.relative_to(Path.cwd().as_posix()) if name.is_relative_to(Path.cwd().as_posix()) else name
        self._places.append((_shown(below.as_posix()), place))
        return place

    def members(self) -> Iterator[Member]:
        """All members that came out."""
        for name, place in self._places:
            yield Member(name, cast(BinaryIO, io.BufferedReader(_Window(self.file, place.start, place.length))))


class _Place:
    """Appends one member to the common file; py7zr writes one member at a time. It is a `Py7zIO`."""

    def __init__(self, file: BinaryIO, budget: _Budget) -> None:
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


_READERS: dict[str, Callable[[BinaryIO, Choose, Path, _Budget], Iterator[Member]]] = {
    "tar": _tar_members,
    "zip": _zip_members,
    "7z": _seven_zip_members,
}
