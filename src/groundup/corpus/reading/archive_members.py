"""What the readers of all kinds of archives share: a member, the budget of what may come out, and the names refused.

Invariant: what all members of an archive expand to is bounded by the limit, and by RATIO_LIMIT times the archive.
"""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from groundup.corpus.reading.compressed import RATIO_FREE_BYTES, RATIO_LIMIT, DamagedFile
from groundup.errors import printable

_BLOCK_BYTES = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
FAULTS = (
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


class Budget:
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


def reason_by_place(name: str) -> str:
    """Why a member of this name is refused: it points outside the archive; "" when it does not."""
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or _DRIVE.match(name) or "\0" in name
    return "archive member with a name outside the archive" if outside else ""


def shown_name(name: str) -> str:
    """A member's name with `/`, in which control characters are escaped."""
    return printable(PurePosixPath(name).as_posix()).replace("\n", "\\n")


def damaged(kind: str, error: Exception) -> Exception:
    """What to raise instead; a fault of the machine, such as a full disk, stays what it is."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return DamagedFile(f"damaged {kind} archive", f"{type(error).__name__}: {error}"[:120])
