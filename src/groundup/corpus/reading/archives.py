"""A tar, zip or 7z archive -> its members, each as a readable file, or the reason why it is not read.

    handle --READERS[kind]--> Member(name, handle) | Member(name, reason)

Nothing is ever written under a member's name: what has to be unpacked goes to a temporary file without one. Names that
point outside, links, devices, pipes and encrypted members are refused all the same, since no honest archive of text
has them and their text would not be what the archive shows.

Invariant: what all members of an archive expand to is bounded by the limit, and by RATIO_LIMIT times the archive; a
member's checksum, where the format has one, was verified before any of it is given.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from groundup.corpus.reading.archive_members import FAULTS, Budget, Choose, Member, damaged, reason_by_place, shown_name
from groundup.corpus.reading.compressed import DamagedFile, spool_blocks
from groundup.corpus.reading.encoding_names import codec_of
from groundup.corpus.reading.encodings import SAMPLE_BYTES, detect
from groundup.corpus.reading.seven_zip import seven_zip_members

_ENCRYPTED = 0x1
_UTF_8 = 0x800
_DOS = "cp437"


def members(kind: str, handle: BinaryIO, choose: Choose, folder: Path, limit_bytes: int) -> Iterator[Member]:
    """Members of a "tar", "zip" or "7z" archive in its order; each handle is good until the next is asked for.

    `folder` takes temporary files. Raises DamagedFile when the archive itself is damaged or a bomb; members given
    before are sound.
    """
    packed_bytes = handle.seek(0, 2)
    handle.seek(0)
    budget = Budget(packed_bytes, limit_bytes)
    used: dict[str, int] = {}
    for member in _READERS[kind](handle, choose, folder, budget):
        count = used[member.name] = used.get(member.name, 0) + 1
        name = member.name if count == 1 else f"{member.name}#{count}"
        yield Member(name, member.handle, member.reason, member.refused)


def _tar_members(handle: BinaryIO, choose: Choose, folder: Path, budget: Budget) -> Iterator[Member]:
    size_bytes = handle.seek(0, 2)
    handle.seek(0)
    try:
        with tarfile.open(fileobj=handle, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while info := archive.next():
                cast(Any, archive).members = []  # it would keep them all
                if not info.isdir():
                    yield _tar_member(archive, info, choose, budget, size_bytes)
            _require_end(handle, archive.offset)
    except (tarfile.TarError, *FAULTS) as error:
        raise damaged("tar", error) from None


def _require_end(handle: BinaryIO, offset: int) -> None:
    """Where `tarfile` takes no more members for the end there must be the end mark: it is silent on damaged headers."""
    handle.seek(offset)
    block = handle.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise DamagedFile("truncated tar", f"its end mark is missing at byte {offset}")
    if block.strip(b"\0"):
        raise DamagedFile("damaged tar archive", f"no header at byte {offset}; the rest is not read")


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, choose: Choose, budget: Budget, size_bytes: int
) -> Member:
    name = shown_name(info.name)
    reason = reason_by_place(info.name)
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


def _zip_members(handle: BinaryIO, choose: Choose, folder: Path, budget: Budget) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(handle) as archive:
            codec = _codec_of_names(archive)
            for info in archive.infolist():
                if not info.is_dir():
                    name = info.filename if info.flag_bits & _UTF_8 else info.filename.encode(_DOS).decode(codec)
                    yield from _zip_member(archive, info, name, choose, folder, budget)
    except (zipfile.BadZipFile, *FAULTS) as error:
        raise damaged("zip", error) from None


def _codec_of_names(archive: zipfile.ZipFile) -> str:
    """Codec of the names that do not say that they are UTF-8: what the packing machine used, and DOS where unsure."""
    names = [info.filename.encode(_DOS) for info in archive.infolist() if not info.flag_bits & _UTF_8]
    sample = b"\n".join(name for name in names if not name.isascii())[:SAMPLE_BYTES]
    for codec in ("utf-8", _found(sample)):
        try:
            for name in names:
                name.decode(codec)
            return codec
        except UnicodeDecodeError:
            continue
    return _DOS


def _found(sample: bytes) -> str:
    try:
        return codec_of(detect(sample))
    except DamagedFile:
        return _DOS


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, choose: Choose, folder: Path, budget: Budget
) -> Iterator[Member]:
    reason = reason_by_place(name) or reason_by_place(info.orig_filename.replace("\\", "?"))
    name = shown_name(name)
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
    except (zipfile.BadZipFile, *FAULTS) as error:
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


_READERS: dict[str, Callable[[BinaryIO, Choose, Path, Budget], Iterator[Member]]] = {
    "tar": _tar_members,
    "zip": _zip_members,
    "7z": seven_zip_members,
}
