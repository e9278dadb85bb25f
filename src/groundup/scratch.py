"""Folders for passing things, which go with their owner, and of a killed owner with the next one's start.

    <place>/groundup-<purpose>-XXXXXXXX.tmp/    its owner holds a lock (flock) on the folder itself

Invariant: a folder is removed only by who holds its lock, which the kernel frees when a process dies; so never one that
is in use, and at the latest when the same is begun again at the same place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from groundup.errors import ResourceError

ENDING = ".tmp"


@contextmanager
def scratch_folder(purpose: str, place: Path | None = None) -> Iterator[Path]:
    """A folder of this process for the time of the block, in `place` or the system's folder for temporary files.

    Raises ResourceError where there is none that can be written.
    """
    try:
        place = place or Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ResourceError(
            "no folder for temporary files can be written (TMPDIR, /tmp, /var/tmp); free some space or set TMPDIR",
            details=[str(error)],
        ) from None
    prefix = f"groundup-{purpose}-"
    _remove_left(place, prefix)
    folder, held = _made(place, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=ENDING, dir=place))
        with suppress(FileNotFoundError):  # another took it for left behind, in the moment before it was locked
            held = _opened(folder)
            if _is_ours(held) and folder.exists():
                return folder, held
            os.close(held)


def _is_ours(held: int) -> bool:
    """Lock a folder just made; False where another is about to remove it."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody removes what lies there
        return True
    return True


def _remove_left(place: Path, prefix: str) -> None:
    """Remove folders of this user whose owner is gone."""
    for folder in place.glob(f"{prefix}*{ENDING}"):
        with suppress(OSError):
            held = _opened(folder)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its owner lives
                if os.fstat(held).st_uid == os.geteuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
