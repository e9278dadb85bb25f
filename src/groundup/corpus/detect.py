"""First bytes of a file -> how it is compressed and which format it has, or why it is refused.

Content decides. The name only helps where content cannot tell: between plain text, Markdown and CSV, and whether a
file that begins like JSON is meant to be.

Invariant: an archive, a document format of another program or binary data is never read as text.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass

from groundup.corpus.compressed import DamagedFile

HEAD_BYTES = 1 << 16
COMPRESSED_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".7z": "7z"}
FORMAT_SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".xml": "mediawiki",
}
_TITLES = {"text": "plain text", "jsonl": "JSON lines", "json": "JSON", "csv": "CSV", "parquet": "Parquet"}
_TITLES["mediawiki"] = "MediaWiki dump"

_UNPACK = "{0} archives are not read; unpack it"
_RECOMPRESS = "{0} is not read; recompress it with gzip, bzip2 or zstd"
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (257, b"ustar", _UNPACK.format("tar")),
    (0, b"PK\x03\x04", _UNPACK.format("zip")),
    (0, b"PK\x05\x06", _UNPACK.format("zip")),
    (0, b"Rar!\x1a\x07", _UNPACK.format("rar")),
    (0, b"\xfd7zXZ\x00", _RECOMPRESS.format("xz")),
    (0, b"\x04\x22\x4d\x18", _RECOMPRESS.format("lz4")),
    (0, b"%PDF-", "PDF is not read; convert it to text"),
    (0, b"<?xml", "XML is not read but for MediaWiki dumps; convert it to text or JSON lines"),
    (0, b"<!doctype html", "HTML is not read; convert it to text"),
    (0, b"<html", "HTML is not read; convert it to text"),
    (0, b"version https://git-lfs", "Git LFS pointer without its content; run `git lfs pull`"),
)
REFUSED_SUFFIXES = {".zip", ".tar", ".tgz", ".rar", ".xz", ".lz4", ".pdf", ".html", ".htm"}
"""Looked into although they are not read, so that the report gives the reason."""

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_CONTROL_SHARE_LIMIT = 0.1
DECLARATION_BYTES = 200
_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_NO_ENCODINGS = frozenset(("idna", "punycode", "unicode_escape", "raw-unicode-escape", "unicode-escape"))
_MEDIAWIKI = re.compile(
    rb"\s*+(?:<\?xml[^>]*+>\s*+)?(?:<!--(?:[^-]++|-(?!->))*+-->\s*+)*+<(?:mediawiki[\s>]|page>\s*+<title>)"
)
_DOCUMENT_TYPE = re.compile(
    rb"\s*+(?:<\?xml[^>]*+>\s*+)?(?:<!--(?:[^-]++|-(?!->))*+-->\s*+)*+<!DOCTYPE\s++(?!html)", re.IGNORECASE
)


@dataclass(frozen=True)
class Detected:
    """What a file is: `format` a key of the reader table, `compression` "" when plain, `encoding` of its characters."""

    format: str
    compression: str = ""
    encoding: str = "utf-8"

    def __str__(self) -> str:
        encoding = "" if self.encoding == "utf-8" else f" ({self.encoding.upper()})"
        return _TITLES[self.format] + encoding + (f" in {self.compression}" if self.compression else "")


def suffix_of(name: str) -> str:
    """The last name ending in lower case, endings of compression left out: "A.JSONL.gz" -> ".jsonl"."""
    stem, dot, ending = name.lower().rpartition(".")
    if f".{ending}" in COMPRESSED_SUFFIXES and stem:
        stem, dot, ending = stem.rpartition(".")
    return f".{ending}" if dot else ""


def compression_of(head: bytes) -> str:
    """ "gzip", "zstd", "bz2", "7z" or "" by magic bytes."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z"
    return "bz2" if head[:3] == b"BZh" and head[4:7] == b"1AY" else ""


def byte_order_mark(head: bytes) -> tuple[str, int]:
    """(encoding, length of the mark); ("utf-8", 0) without one."""
    return next(((encoding, len(mark)) for mark, encoding in _BOMS if head.startswith(mark)), ("utf-8", 0))


def encoding_of(head: bytes) -> tuple[str, int]:
    """(encoding, length of the mark) by a byte order mark or an XML declaration, UTF-8 without either.

    Raises DamagedFile for a declared encoding that Python does not know.
    """
    encoding, mark_bytes = byte_order_mark(head)
    declared = _DECLARED_ENCODING.match(head) if not mark_bytes else None
    if not declared:
        return encoding, mark_bytes
    name = declared[1].decode().lower()
    try:
        known = codecs.lookup(name).name
        codecs.getincrementaldecoder(known)
        "".encode(known)  # fails for codecs that are no encoding of text
    except (LookupError, UnicodeError):
        known = ""
    if not known or known in _NO_ENCODINGS:
        raise DamagedFile("unknown encoding", f"the XML declares '{name}'; convert it to UTF-8")
    return ("utf-8" if known in ("utf-8", "ascii") else known), 0


def format_of(head: bytes, name: str, asked: str) -> str:
    """Format of plain bytes that begin with `head` (UTF-8, mark removed). `asked` other than "auto" wins over guessing.

    Raises DamagedFile for what is not read: empty, archives, other programs' formats, binary data.
    """
    if not head:
        raise DamagedFile("empty file")
    if head.startswith(b"PAR1"):
        return "parquet"
    if compression_of(head):
        raise DamagedFile("compressed twice", "decompress it once")
    if asked in ("auto", "mediawiki"):
        if _MEDIAWIKI.match(head):
            return "mediawiki"
        if _DOCUMENT_TYPE.match(head):
            raise DamagedFile("XML with a document type", "entities are never expanded; remove the <!DOCTYPE>")
    _refuse_foreign(head, asked)
    guess = asked if asked != "auto" else _guess(head, suffix_of(name))
    if guess == "parquet":
        raise DamagedFile("not a Parquet file", "it does not begin with PAR1")
    if guess == "mediawiki" and asked == "mediawiki":
        raise DamagedFile("not a MediaWiki dump", "it does not begin with <mediawiki>")
    if guess == "text" or head.lstrip()[:1] not in (b"{", b"["):
        _refuse_binary(head)
    return guess


def _refuse_foreign(head: bytes, asked: str) -> None:
    start = head[:400].lstrip().lower()
    for offset, magic, reason in _REFUSED:
        markup = magic.startswith(b"<")
        found = start.startswith(magic) if markup else head[offset : offset + len(magic)] == magic
        if found and not (markup and asked == "text"):
            name, _, remedy = reason.partition("; ")
            raise DamagedFile(name, remedy)


def _refuse_binary(head: bytes) -> None:
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > _CONTROL_SHARE_LIMIT * len(head):
        hint = "or UTF-16 without its mark" if 0.2 < head.count(0) / len(head) < 0.6 else "not text"
        raise DamagedFile("binary data", f"{controls} of the first {len(head)} bytes are control characters, {hint}")
    if controls:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError as error:
            raise DamagedFile("binary data", f"control characters, and no UTF-8 at byte {error.start}") from None


def _guess(head: bytes, suffix: str) -> str:
    named = FORMAT_SUFFIXES.get(suffix, "text")
    start = head.lstrip()
    if named in ("parquet", "mediawiki"):
        named = "text"
    if start[:1] not in (b"{", b"[") or named == "csv":
        return "jsonl" if named == "json" else named
    first, _, rest = start.partition(b"\n")
    whole_line = _is_json(first)
    if whole_line and rest.strip():
        return "jsonl" if named != "text" or start[:1] == b"{" else "text"
    if named == "text":
        return "jsonl" if whole_line and start[:1] == b"{" else "text"
    pretty = start[:1] == b"[" or first.strip() == b"{"
    return "json" if pretty or named == "json" else "jsonl"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
