"""A WARC file -> its pages, record by record.

    file --gzip member by gzip member, each verified--> records --response, resource, conversion--> pages -> rows

Written here, since the readers there are give the part of a record that is cut off as a whole one, without a word.

Invariant: a damaged record is rejected by itself and reading goes on at the next one; memory holds one page.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from groundup.corpus.reading.compressed import DamagedFile, spool_blocks

_LINE_BYTES = 1 << 16
_HEADER_LINES = 1000
_BLOCK_BYTES = 1 << 16
_MAGIC = b"WARC/"
_GZIP = b"\x1f\x8b\x08"
_WITH_PAGES = ("response", "resource", "conversion")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
CUT = "truncated WARC record"


@dataclass(frozen=True)
class WarcPage:
    """The content of one record: `kind` "html" or "text", `charset` as the server says it."""

    data: bytes
    kind: str
    charset: str
    url: str
    record_id: str
    date: str


@dataclass(frozen=True)
class NoPage:
    """A record without a page that can be read: `reason` is counted, `detail` shown."""

    reason: str
    detail: str = ""


def begins_warc(handle: BinaryIO, compression: str) -> bool:
    """Whether a file, plain or gzip, begins like a WARC file; stands at its beginning before and after."""
    head = handle.read(_BLOCK_BYTES)
    handle.seek(0)
    if compression == "gzip":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 64)
        except zlib.error:
            return False
    return head.startswith(_MAGIC)


def read_warc(
    handle: BinaryIO, compression: str, folder: Path, limit_bytes: int, page_limit_bytes: int
) -> Iterator[WarcPage | NoPage]:
    """Every record in the file's order. `limit_bytes`: how far one gzip member may expand; pages above
    `page_limit_bytes` are passed over. `folder` takes temporary files.
    """
    if compression != "gzip":  # plain, or unpacked before
        yield from _records(handle, page_limit_bytes)
        return
    for member in _gzip_members(handle, folder, limit_bytes):
        if isinstance(member, NoPage):
            yield member
            continue
        with member:
            yield from _records(member, page_limit_bytes)


def _gzip_members(handle: BinaryIO, folder: Path, limit_bytes: int) -> Iterator[BinaryIO | NoPage]:
    """Each member's plain bytes, its checksum verified. Behind a damaged one, the next that begins a record."""
    start = 0
    while True:
        handle.seek(start)
        first = handle.read(1)
        if first == b"\0":  # padding
            start = _next_member(handle, start)
        if not first or start < 0:
            return
        handle.seek(start)
        member = _Member(handle, limit_bytes)
        try:
            plain = spool_blocks(member.blocks(), folder)
        except (zlib.error, DamagedFile) as error:
            fault = error if isinstance(error, DamagedFile) else DamagedFile("damaged gzip", str(error))
            yield NoPage(fault.reason, f"at byte {start}: {fault.detail}")
            start = _next_member(handle, start + 1)
            if start < 0:
                return
            continue
        start = member.end
        yield plain


class _Member:
    """One gzip member of a file; `end` is where it ended."""

    def __init__(self, handle: BinaryIO, limit_bytes: int) -> None:
        self._handle, self._limit_bytes = handle, limit_bytes
        self.end = handle.tell()

    def blocks(self) -> Iterator[bytes]:
        decoder = zlib.decompressobj(wbits=31)
        total = 0
        while not decoder.eof:
            data = self._handle.read(_BLOCK_BYTES >> 1)
            if not data:
                raise DamagedFile("truncated gzip", "the file ends inside its compressed stream")
            block = decoder.decompress(data)
            total += len(block)
            if total > self._limit_bytes:
                raise DamagedFile("expands too far", f"more than max_expanded_bytes = {self._limit_bytes}")
            self.end = self._handle.tell() - len(decoder.unused_data)
            yield block


def _next_member(handle: BinaryIO, start: int) -> int:
    """Offset of the next gzip member that begins a WARC record; -1 when there is none."""
    handle.seek(start)
    overlap = b""
    while block := handle.read(1 << 20):
        data, base = overlap + block, handle.tell() - len(overlap) - len(block)
        found = data.find(_GZIP)
        while found >= 0:
            handle.seek(base + found)
            if _begins_record(handle.read(_BLOCK_BYTES)):
                return base + found
            found = data.find(_GZIP, found + 1)
        handle.seek(base + len(data))
        overlap = data[-len(_GZIP) + 1 :]
    return -1


def _begins_record(data: bytes) -> bool:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, 64).startswith(_MAGIC)
    except zlib.error:
        return False


def _records(handle: BinaryIO, page_limit_bytes: int) -> Iterator[WarcPage | NoPage]:
    """Records of plain bytes."""
    in_order = True
    while line := handle.readline(_LINE_BYTES):
        if line.startswith(_MAGIC):
            in_order = True
            record = _record(handle, page_limit_bytes)
            if record is not None:
                yield record
        elif line.strip() and in_order:
            in_order = False
            yield NoPage("damaged WARC record", f"instead of WARC/1.x: {line[:60]!r}")


def _record(handle: BinaryIO, page_limit_bytes: int) -> WarcPage | NoPage:
    headers = _headers(handle)
    if headers is None:
        return NoPage("damaged WARC record", "its headers do not end")
    length = headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        return NoPage("damaged WARC record", f"Content-Length is {length[:20]!r}")
    kind = headers.get("warc-type", "").lower()
    if kind not in _WITH_PAGES:
        known = kind if kind in ("warcinfo", "request", "metadata", "revisit", "continuation") else "unknown type"
        return _skip(handle, int(length)) or NoPage(f"WARC record without a page ({known})")
    if int(length) > page_limit_bytes:
        return _skip(handle, int(length)) or NoPage(
            "page too large", f"{length} bytes, the limit is {page_limit_bytes}"
        )
    data = handle.read(int(length))
    if len(data) < int(length):
        return NoPage(CUT, f"{len(data)} of {length} bytes: {headers.get('warc-target-uri', '')[:80]}")
    return _page(headers, kind, data, page_limit_bytes)


def _headers(handle: BinaryIO) -> dict[str, str] | None:
    """Names in lower case -> values, up to the blank line; None when it does not come."""
    headers: dict[str, str] = {}
    for _ in range(_HEADER_LINES):
        line = handle.readline(_LINE_BYTES)
        if not line or not line.endswith(b"\n"):
            return None
        if not line.strip():
            return headers
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return None


def _skip(handle: BinaryIO, length: int) -> NoPage | None:
    """Pass over a record's content."""
    left = length
    while left:
        data = handle.read(min(left, _BLOCK_BYTES))
        if not data:
            return NoPage(CUT, f"{length - left} of {length} bytes")
        left -= len(data)
    return None


def _page(headers: Mapping[str, str], kind: str, data: bytes, limit_bytes: int) -> WarcPage | NoPage:
    content_type = headers.get("content-type", "")
    if content_type.lower().startswith("application/http"):
        stream = io.BytesIO(data)
        status = stream.readline(_LINE_BYTES).split()
        http = _headers(stream)
        if http is None or len(status) < 2 or not status[0].startswith(b"HTTP/"):
            return NoPage("damaged HTTP response", repr(data[:60]))
        if status[1] != b"200":
            return NoPage("HTTP status other than 200", status[1][:10].decode("ascii", "replace"))
        try:
            data = _payload(stream.read(), http, limit_bytes)
        except (DamagedFile, zlib.error, zstandard.ZstdError, ValueError) as error:
            return NoPage("damaged HTTP response", str(error)[:80])
        content_type = http.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    readable = {"text/html": "html", "application/xhtml+xml": "html", "text/plain": "text"}
    if media not in readable and not (not media and data[:200].lstrip()[:1] == b"<"):
        return NoPage("no page of HTML or plain text", media[:60])
    charset = _CHARSET.search(content_type)
    return WarcPage(
        data,
        readable.get(media, "html"),
        charset[1] if charset else "",
        headers.get("warc-target-uri", "").strip("<>"),
        headers.get("warc-record-id", "").strip("<>"),
        headers.get("warc-date", ""),
    )


def _payload(body: bytes, http: Mapping[str, str], limit_bytes: int) -> bytes:
    """The body without its transfer and content encodings, which some crawlers keep and others take away."""
    if "chunked" in http.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    coding = http.get("content-encoding", "").lower().strip()
    if coding in ("gzip", "x-gzip") and body.startswith(_GZIP):
        body = _inflated(body, 31, limit_bytes)
    elif coding == "deflate" and body[:1] == b"\x78":
        body = _inflated(body, 15, limit_bytes)
    elif coding == "deflate":  # without the header it should have, as some servers do, or taken away by the crawler
        with suppress(zlib.error):
            body = _inflated(body, -15, limit_bytes)
    elif coding == "zstd" and body.startswith(zstandard.FRAME_HEADER):
        body = zstandard.ZstdDecompressor(max_window_size=1 << 23).decompress(body, max_output_size=limit_bytes)
    elif coding == "br":
        raise DamagedFile("content encoding br is not read", "fetch pages with gzip")
    return body


def _inflated(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    decoder = zlib.decompressobj(wbits=window_bits)
    plain = decoder.decompress(body, limit_bytes)
    if not decoder.eof:
        raise DamagedFile("truncated or too large", f"content encoding, {len(plain)} bytes")
    return plain


def _unchunked(body: bytes) -> bytes:
    """The chunks of a chunked body together; the body itself when it does not look chunked."""
    stream = io.BytesIO(body)
    chunks: list[bytes] = []
    while True:
        size = stream.readline(100).partition(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError:
            return b"".join(chunks) if chunks else body
        if length <= 0:
            return b"".join(chunks)
        chunks.append(stream.read(length))
        stream.readline(100)
