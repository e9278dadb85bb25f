"""The error tree and the exit codes: every failure a user can cause becomes one line and one documented number.

    GroundupError
    +-- RecipeError      2   recipe, command line, option
    +-- DataError        3   raw text, conversations, shards
    +-- ModelFileError   4   checkpoint, exported model, tokenizer
    +-- LockedError      5   another run holds the folder
    +-- ResourceError    6   disk, memory, permissions, ports
    |   +-- LostRankError    another process of the run is gone
    |   +-- KilledRankError  one of the processes was killed
    |   +-- HungError        a step, checkpoint or validation does not end
    +-- DivergedError    7   loss or gradients no longer finite
    +-- CrashLoopError   8   the same step ended the run again and again
    +-- Interrupted     75   SIGTERM, state saved (130: Ctrl-C, state saved)

Invariant: `first_line(error)` has at most 200 characters and says what is wrong, with its value, and the remedy.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_CODES: dict[int, str] = {
    0: "done",
    2: "recipe or usage",
    3: "data",
    4: "checkpoint or model file",
    5: "locked by another run",
    6: "resources (disk, memory, ports), or hung",
    7: "diverged",
    8: "crash loop",
    75: "preempted with its state saved",
    130: "interrupted with its state saved",
}
FIRST_LINE_LIMIT = 200


class GroundupError(Exception):
    """Base of all errors a user can cause. `message`'s first line is what the command prints."""

    exit_code = 1
    another_start_may_help = False
    """Whether the same command, begun again at once, may get further: what it met was none of its own doing."""

    def __init__(self, message: str, *, details: list[str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or []


class RecipeError(GroundupError):
    """The recipe, an override or an option is wrong."""

    exit_code = 2


class DataError(GroundupError):
    """Raw text, conversations or shards are missing, empty or damaged."""

    exit_code = 3


class ModelFileError(GroundupError):
    """A checkpoint, an exported model or a tokenizer cannot be used."""

    exit_code = 4


class LockedError(GroundupError):
    """Another run holds the lock of this folder."""

    exit_code = 5


class ResourceError(GroundupError):
    """The machine refuses: disk full, read-only folder, no memory, port taken."""

    exit_code = 6


class LostRankError(ResourceError):
    """Another process of the same run ended or cannot be reached; what it said itself is the cause."""

    another_start_may_help = True


class KilledRankError(ResourceError):
    """A process of the run was ended by a signal that it could not answer."""

    another_start_may_help = True


class HungError(ResourceError):
    """A step, checkpoint or validation took far too long, so the process was ended."""

    another_start_may_help = True


class DivergedError(GroundupError):
    """Loss or gradients stayed non-finite, so going on would waste the budget."""

    exit_code = 7


class CrashLoopError(GroundupError):
    """Attempt after attempt ended at the same step, so another one would too."""

    exit_code = 8


class Interrupted(GroundupError):
    """The run was asked to stop and its state is saved; `exit_code` is 75 (SIGTERM) or 130 (Ctrl-C)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """`text` with control, bidi and invisible characters and lone surrogates escaped, for terminals and pages.

    Line breaks, tabs and every kind of space (the ideographic one too) stay as they are.
    """
    return text if text.isprintable() else "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def first_line(error: GroundupError) -> str:
    """What the command prints first: one escaped line of at most 200 characters."""
    line = printable(error.message.split("\n", 1)[0])
    where, colon, rest = line.partition(": ")
    if len(line) > FIRST_LINE_LIMIT and len(rest) < FIRST_LINE_LIMIT - 40:
        # A long path loses its beginning, so that what is wrong and the remedy stay whole.
        line = "..." + where[len(line) - FIRST_LINE_LIMIT + 3 :] + colon + rest
    return line if len(line) <= FIRST_LINE_LIMIT else line[: FIRST_LINE_LIMIT - 3] + "..."


_REMEDIES = {
    errno.ENOSPC: "no space left on the disk: free some or set runtime.workdir to another disk",
    errno.EDQUOT: "disk quota exceeded: free some space or set runtime.workdir elsewhere",
    errno.EROFS: "the file system is read-only: set runtime.workdir to a writable folder",
    errno.EACCES: "permission denied: set runtime.workdir to a folder you may write",
    errno.EPERM: "not permitted: set runtime.workdir to a folder you may write",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
    errno.EFBIG: "file size limit reached: raise `ulimit -f`",
    errno.EIO: "input/output error: the disk may be failing; set runtime.workdir to another disk",
    errno.ENOMEM: "out of memory: lower runtime.micro_batch_rows or free memory",
    errno.EAGAIN: "no further process or thread may start: raise `ulimit -u` or the control group's pids.max",
}
_NO_INODES = "no inodes left: delete some files or set runtime.workdir to another disk"
FEW_INODES = 16
"""A disk with fewer left has no room for the files of a checkpoint, however many bytes are free."""
SHORTAGES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Refusals that come in the middle of work and may pass."""
OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Refusals of opening or reading that say nothing of the file."""
_IN_WORDS = re.compile(r"os error (\d+)|Os \{ code: (\d+)")
"""How libraries written in Rust tell the system's error."""
_NOT_ALL_WRITTEN = re.compile(r"\d+ requested and \d+ written|Not enough free space to write")
"""How numpy tells that a disk is full."""


def refusal(error: BaseException) -> int | None:
    """The system's error number behind an exception, also where a library tells it only in words; None without one."""
    if isinstance(error, GroundupError):
        return None if error.__cause__ is None else refusal(error.__cause__)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if found := _IN_WORDS.search(text):
        return int(found[1] or found[2])
    if isinstance(error, OSError) and _NOT_ALL_WRITTEN.search(text):
        return errno.ENOSPC
    return errno.EAGAIN if isinstance(error, RuntimeError) and "start new thread" in text else None


def inodes_left(path: Path) -> int | None:
    """How many more files the disk of `path` may hold; None where it does not count them."""
    for there in (path, *path.absolute().parents):
        try:
            found = os.statvfs(there)
        except OSError:
            continue
        return found.f_favail if found.f_files else None
    return None


@contextmanager
def resource_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing under `path` into a `ResourceError` that names the remedy."""
    try:
        yield
    except GroundupError:
        raise
    except BaseException as error:  # what panics in a thread of the tokenizers' library is no Exception
        number = refusal(error)
        if number not in _REMEDIES:
            raise
        where = str(getattr(error, "filename", None) or path)
        left = inodes_left(Path(where)) if number == errno.ENOSPC else None
        what = _REMEDIES[number] if left is None or left >= FEW_INODES else _NO_INODES
        remedy = f"{what}; the same command goes on"
        room = FIRST_LINE_LIMIT - len(remedy) - len(": ")
        shown = where if len(where) <= room else "..." + where[3 - room :]
        raise ResourceError(f"{shown}: {remedy}") from error
