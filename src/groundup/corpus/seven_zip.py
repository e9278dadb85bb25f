"""A 7z archive of one file (as some wikis publish their dumps) -> its verified bytes in a temporary file.

py7zr, an extra, does the reading: it is pure Python around the codecs, so whatever it raises on a damaged archive is
taken for damage. Archives of several files are not read: which of them is meant is for the user to say.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from groundup.corpus.compressed import DamagedFile

_MEMORY_BYTES = 16 << 20


def spool_7z(handle: BinaryIO, folder: Path, limit_bytes: int) -> BinaryIO:
    """The only file of an archive, verified, as a seekable temporary file (on disk in `folder` above 16 MiB).

    Raises DamagedFile when py7zr is not installed, the archive is damaged or encrypted or holds more than one file, or
    when more than `limit_bytes` come out.
    """
    try:
        import py7zr  # an extra, and rarely needed
        from py7zr.io import Py7zIO, WriterFactory
    except ImportError:
        raise DamagedFile("7z needs py7zr", "pip install 'groundup[7z]', or repack the file with bzip2") from None
    file: Any = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - the caller closes

    class Capped(Py7zIO):  # type: ignore[misc, unused-ignore]
        """Takes the blocks of the file."""

        def write(self, data: bytes | bytearray) -> int:
            if file.tell() + len(data) > limit_bytes:
                raise DamagedFile("expands too far", f"more than max_expanded_bytes = {limit_bytes}")
            return int(file.write(data))

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return int(file.tell())

    class Writers(WriterFactory):  # type: ignore[misc, unused-ignore]
        """Gives the one file's writer."""

        def create(self, filename: str) -> Py7zIO:
            return Capped()

    try:
        with py7zr.SevenZipFile(handle, "r") as archive:
            members = [member for member in archive.list() if not member.is_directory]
            if len(members) != 1:
                raise DamagedFile("7z archive of several files", f"{len(members)} of them; unpack it")
            archive.extract(targets=[members[0].filename], factory=Writers())
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, DamagedFile) or not isinstance(error, Exception):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedFile("damaged 7z", f"{type(error).__name__}: {str(error)[:80]}") from None
    return cast(BinaryIO, file)
