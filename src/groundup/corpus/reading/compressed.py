"""Compressed bytes -> plain bytes of which nothing is used before the end of the stream and its checksum were seen.

    file --expand--> blocks --spool--> temporary file (memory, then the work folder's disk) --> readers

Invariant: `spool` returns only when every member or frame of the file ended properly; memory per block is bounded for
any input (gzip expands at most 1032-fold, zstd about 33,000-fold, bz2, xz and lz4 are asked for a block at a time).
"""

from __future__ import annotations

import bz2
import errno
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from groundup.corpus.optional import load

ZSTD_WINDOW_LIMIT_BYTES = 1 << 27
"""Frames that ask for a larger window are refused: a reader must allocate it before the first byte."""
XZ_MEMORY_LIMIT_BYTES = 1 << 28
"""Enough for every preset of xz (-9 needs 65 MiB)."""
RATIO_LIMIT = 250
RATIO_FREE_BYTES = 256 << 20
"""A file may expand by any factor up to this size; beyond it by RATIO_LIMIT at most (text rarely exceeds 20)."""
_MACHINE = ("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EFBIG", "EIO")
MACHINE_FAULTS = {getattr(errno, name) for name in _MACHINE}
"""Not a file's fault: these stop the run, so that it can go on where it was once they are mended. Were the file left
out, another result would lie under the fingerprint of the one with it."""
_MEMORY_BYTES = 16 << 20
_BLOCK_BYTES = 16 << 20


def is_of_machine(error: Exception) -> bool:
    """Whether an error says nothing of the file that it was met in."""
    return isinstance(error, OSError) and error.errno in MACHINE_FAULTS


class DamagedFile(Exception):
    """A whole file cannot be used: `reason` is counted in the report, `detail` says where or what."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


def _feed_all(decoder: Any, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data)


def _feed_in_blocks(decoder: Any, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data, _BLOCK_BYTES)
    while not decoder.needs_input and not decoder.eof:
        yield decoder.decompress(b"", _BLOCK_BYTES)


# kind -> (new decoder, how to feed it, bytes fed at once: what keeps one block below about 64 MB)
_DECODERS: dict[str, tuple[Callable[[], Any], Callable[[Any, bytes], Iterator[bytes]], int]] = {
    "gzip": (lambda: zlib.decompressobj(wbits=31), _feed_all, 1 << 15),
    "zstd": (
        lambda: zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT_BYTES).decompressobj(),
        _feed_all,
        1 << 11,
    ),
    "bz2": (bz2.BZ2Decompressor, _feed_in_blocks, 1 << 15),
    "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_LIMIT_BYTES), _feed_in_blocks, 1 << 15),
    "lz4": (lambda: load("lz4.frame", "reading lz4").LZ4FrameDecompressor(), _feed_in_blocks, 1 << 15),
}


def expand(handle: BinaryIO, kind: str) -> Iterator[bytes]:
    """Plain blocks of a "gzip", "zstd", "bz2", "xz" or "lz4" file with any number of members or frames.

    Raises DamagedFile on truncation, a wrong checksum, foreign bytes after a member, or a zstd window above the limit;
    the blocks given before must then be thrown away.
    """
    make, feed, slice_bytes = _DECODERS[kind]
    data = handle.read(slice_bytes)
    ended = begun = False
    try:
        while data:
            decoder = make()
            begun = False
            while not decoder.eof:
                if not data:
                    raise DamagedFile(f"truncated {kind}", "the file ends inside its compressed stream")
                for block in feed(decoder, data):
                    begun = begun or bool(block)
                    yield block
                data = b"" if decoder.eof else handle.read(slice_bytes)
            ended = True
            data = decoder.unused_data or handle.read(slice_bytes)
            if kind in ("gzip", "xz"):  # tape blocks and some uploaders pad with zeros, which gzip and xz ignore
                while data and not (data := data.lstrip(b"\0")):
                    data = handle.read(slice_bytes)
    except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, ValueError, RuntimeError) as error:
        if is_of_machine(error):
            raise
        if ended and not begun:
            raise DamagedFile(
                f"foreign bytes behind {kind}", f"cut them off, or recompress it ({error})"[:120]
            ) from None
        raise DamagedFile(*_explain(kind, error)) from None


def _explain(kind: str, error: Exception) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return "not readable", error.strerror or text
    if any(sign in text.lower() for sign in ("data check", "length check", "checksum")):
        return f"{kind} checksum error", text
    if "too much memory" in text or "window" in text.lower():
        return f"{kind} window too large", f"more than {ZSTD_WINDOW_LIMIT_BYTES >> 20} MiB; recompress without --long"
    if "Memory usage limit" in text:
        return f"{kind} window too large", f"more than {XZ_MEMORY_LIMIT_BYTES >> 20} MiB; recompress with a preset"
    return f"damaged {kind}", text


def spool(handle: BinaryIO, kind: str, folder: Path, limit_bytes: int) -> BinaryIO:
    """The whole of a compressed file, verified, as a seekable temporary file (on disk in `folder` above 16 MiB).

    Raises DamagedFile as `expand` does, when more than `limit_bytes` come out, or when it looks like a bomb.
    """
    packed_bytes = handle.seek(0, 2)
    handle.seek(0)
    return spool_blocks(capped(expand(handle, kind), packed_bytes, limit_bytes), folder)


def spool_blocks(blocks: Iterator[bytes], folder: Path) -> BinaryIO:
    """All blocks in one temporary file, rewound. It has no name, so nothing is left behind by a kill."""
    file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - the caller closes it
    try:
        for block in blocks:
            file.write(block)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return cast(BinaryIO, file)


def capped(blocks: Iterator[bytes], packed_bytes: int, limit_bytes: int) -> Iterator[bytes]:
    """The blocks; DamagedFile at more than `limit_bytes`, or far more than `packed_bytes` can honestly hold."""
    total = 0
    for block in blocks:
        total += len(block)
        if total > limit_bytes:
            raise DamagedFile("expands too far", f"more than max_expanded_bytes = {limit_bytes}")
        if total > RATIO_FREE_BYTES and total > RATIO_LIMIT * packed_bytes:
            raise DamagedFile("expands too far", f"{packed_bytes} bytes to more than {total}: a compression bomb?")
        yield block
