"""Blocks of plain XML -> the bytes of each `<page>`, cut at its tags, which a text can only hold escaped.

Invariant: every byte belongs to a page, to the blanks between pages or to what is reported; memory is bounded by the
longest page that is accepted, where of a page with its history only the last revision counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from groundup.corpus.reading.records import TOO_LONG
from groundup.corpus.reading.wiki.streams import Damage

_OPEN, _CLOSE, _REVISION, _END = b"<page", b"</page>", b"<revision>", b"</mediawiki>"
_AFTER_NAME = (b">", b" ", b"\t", b"\r", b"\n", b"/")
_SHRINK_BYTES = 4 << 20
_SAMPLE_BYTES = 120


@dataclass(frozen=True)
class Unusable:
    """What was found in place of a page."""

    reason: str
    detail: str = ""
    is_page: bool = True
    """False: something beside the pages, or nobody knows how many pages."""


def find_page(data: bytes | bytearray, position: int = 0) -> int:
    """Offset of the first `<page>` tag at or after `position`, -1 when there is none."""
    while (found := data.find(_OPEN, position)) >= 0:
        if data[found + len(_OPEN) : found + len(_OPEN) + 1] in _AFTER_NAME:
            return found
        position = found + 1
    return -1


class PageCutter:
    """Cuts blocks into the pages that begin where `is_owned(offset)`. `at_start`: the first block begins the dump."""

    def __init__(self, is_owned: Callable[[int], bool], at_start: bool, needs_end: bool, limit_bytes: int) -> None:
        self._is_owned, self._needs_end, self._limit_bytes = is_owned, needs_end, limit_bytes
        self._buffer = bytearray()
        self._base = 0  # offset of the buffer's first byte
        self._searched = 0
        self._in_page = self._too_long = False
        self._between: bytearray | None = bytearray() if at_start else None  # None: the rest of another one's page
        self._is_header = at_start

    def cut(self, blocks: Iterable[bytes | Damage]) -> Iterator[bytes | Unusable]:
        """Pages in order, and what is none."""
        for block in blocks:
            if isinstance(block, Damage):
                yield from self._damaged(block)
                continue
            self._buffer += block
            while self._in_page or self._find_start():
                if not self._in_page:
                    yield from self._stray()
                    if not self._is_owned(self._base):
                        return
                    self._in_page, self._searched = True, 0
                end = self._buffer.find(_CLOSE, self._searched)
                if end < 0:
                    self._shrink()
                    break
                inner = self._buffer.rfind(_OPEN, 1, end)
                if inner > 0 and find_page(self._buffer, inner) == inner:
                    yield Unusable("page without its end", "another one begins before")
                    self._drop(inner)
                    if not self._is_owned(self._base):
                        return
                    end -= inner
                yield self._take_page(end + len(_CLOSE))
        yield from self._finish()

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._base += count

    def _find_start(self) -> bool:
        """Move the buffer to the next page's first byte; what stands before it is kept in part, to be judged."""
        found = find_page(self._buffer)
        keep = max(0, len(self._buffer) - len(_OPEN)) if found < 0 else found
        if self._between is not None and len(self._between) < _SAMPLE_BYTES:
            self._between += self._buffer[: min(keep, 4 * _SAMPLE_BYTES)].strip()
        self._drop(keep)
        return found >= 0

    def _stray(self) -> Iterator[Unusable]:
        if self._between and not self._is_header:
            sample = bytes(self._between[:_SAMPLE_BYTES]).decode("utf-8", "replace")
            yield Unusable("XML between pages", sample, is_page=False)
        self._between, self._is_header = bytearray(), False

    def _take_page(self, end: int) -> bytes | Unusable:
        if end > self._limit_bytes:
            end -= self._forget_revisions(end)
        page: bytes | Unusable = bytes(self._buffer[:end])
        if self._too_long or end > self._limit_bytes:
            page = Unusable(TOO_LONG, f"more than {self._limit_bytes} bytes of XML")
        self._drop(end)
        self._in_page = self._too_long = False
        return page

    def _shrink(self) -> None:
        """Forget revisions that a later one follows, and pages that are too long, before the next block comes."""
        if len(self._buffer) > min(_SHRINK_BYTES, self._limit_bytes):
            self._forget_revisions(len(self._buffer))
        if len(self._buffer) > self._limit_bytes:
            self._too_long = True
            self._drop(len(self._buffer) - len(_CLOSE) + 1)
        self._searched = max(0, len(self._buffer) - len(_CLOSE) + 1)

    def _forget_revisions(self, end: int) -> int:
        """Take out all but the last revision in the first `end` bytes; returns how many bytes that were."""
        first, last = self._buffer.find(_REVISION, 0, end), self._buffer.rfind(_REVISION, 0, end)
        if not 0 <= first < last:
            return 0
        del self._buffer[first:last]
        self._base += last - first
        return last - first

    def _damaged(self, damage: Damage) -> Iterator[Unusable]:
        if damage.reason:
            yield Unusable(damage.reason, damage.detail, is_page=False)
        if self._in_page:
            yield Unusable("page cut by damage")
        self._drop(len(self._buffer))
        self._in_page = self._too_long = False
        self._between = None

    def _finish(self) -> Iterator[Unusable]:
        if self._in_page:
            yield Unusable("truncated XML", "the file ends inside a page")
        elif self._between is not None:
            rest = bytes(self._between + self._buffer).strip()
            if not self._is_header and rest not in (b"", _END):
                yield Unusable("XML between pages", rest[:_SAMPLE_BYTES].decode("utf-8", "replace"), is_page=False)
            elif self._needs_end and not rest.endswith(_END):
                yield Unusable("truncated XML", "the file ends without </mediawiki>", is_page=False)
