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

from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encoding_names import UTF_8, Encoding

HEAD_BYTES = 1 << 16
COMPRESSED_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz", ".lz4": "lz4"}
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
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".warc": "warc",
    ".wet": "warc",
    ".xml": "mediawiki",
}
ARCHIVE_SUFFIXES = {".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".zip", ".7z"}
_TITLES = {
    "text": "plain text",
    "jsonl": "JSON lines",
    "json": "JSON",
    "csv": "CSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "html": "HTML",
    "warc": "WARC",
    "mediawiki": "MediaWiki dump",
    "tar": "tar",
    "zip": "zip",
    "7z": "7z",
}

_UNPACK = "{0} archives are not read; unpack it"
_ARCHIVES: tuple[tuple[int, bytes, str], ...] = (
    (257, b"ustar", "tar"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
)
_BINARY_FORMATS: tuple[tuple[bytes, str], ...] = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"WARC/", "warc"))
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"Rar!\x1a\x07", _UNPACK.format("rar")),
    (b"FEA1", "Feather version 1 is not read; write it as Feather version 2 or Parquet"),
    (b"%PDF-", "PDF is not read; convert it to text"),
    (b"%!PS", "PostScript is not read; convert it to text"),
    (b"{\\rtf1", "RTF is not read; convert it to text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "documents of old office programs are not read; convert it to text"),
    (b"\x1f\x9d", ".Z files are not read; recompress it with gzip"),
    (b"LZIP\x01", "lzip is not read; recompress it with xz"),
    (b"\x5d\x00\x00", "lzma without xz is not read; recompress it with xz"),
    (b"version https://git-lfs", "Git LFS pointer without its content; run `git lfs pull`"),
)
REFUSED_SUFFIXES = {".rar", ".pdf"}
"""Looked into although they are not read, so that the report gives the reason."""
_PROLOGUE = rb"(?>\s++|<!--(?:[^-]++|-(?!->))*+-->|<\?xml[^>]*+>)*+"
_HTML = re.compile(_PROLOGUE + rb"<(?:!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
_MEDIAWIKI = re.compile(_PROLOGUE + rb"<(?:mediawiki[\s>]|page>\s*+<title>)")
_DOCUMENT_TYPE = re.compile(_PROLOGUE + rb"<!doctype\s++(?!html[\s>])", re.IGNORECASE)
_XML = re.compile(rb"\s*+<\?xml[\s?]", re.IGNORECASE)

INDEX_OF_DUMP = "index of a MediaWiki dump"
_INDEX_LINE = re.compile(rb"(\d{1,14}):\d{1,12}:[^:\s]")
_FIRST_OFFSET = 100
"""The header of a dump, packed, has some 600 bytes. Times of the day do not come so far."""

_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_CONTROL_SHARE_LIMIT = 0.1


@dataclass(frozen=True)
class Detected:
    """What a file is: `format` a key of the reader table or an archive's, `compression` "" when plain."""

    format: str
    compression: str = ""
    encoding: Encoding = UTF_8
    contents: str = ""
    """What an archive or a file of pages holds."""

    def __str__(self) -> str:
        encoding = "" if self.encoding == UTF_8 else f" ({self.encoding})"
        packed = f" in {self.compression}" if self.compression else ""
        return _TITLES[self.format] + encoding + packed + (f": {self.contents}" if self.contents else "")


def suffix_of(name: str) -> str:
    """The last name ending in lower case, endings of compression left out: "A.JSONL.gz" -> ".jsonl"."""
    stem, dot, ending = name.lower().rpartition(".")
    if f".{ending}" in COMPRESSED_SUFFIXES and stem:
        stem, dot, ending = stem.rpartition(".")
    return f".{ending}" if dot else ""


def compression_of(head: bytes) -> str:
    """ "gzip", "zstd", "bz2", "xz", "lz4" or "" by magic bytes."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"\x04\x22\x4d\x18"):
        return "lz4"
    return "bz2" if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90") else ""


def archive_of(head: bytes) -> str:
    """ "tar", "zip", "7z" or "" by magic bytes, or by the checksum that tars before 1988 have alone."""
    found = next((kind for offset, magic, kind in _ARCHIVES if head[offset : offset + len(magic)] == magic), "")
    return found or ("tar" if _is_old_tar(head[:512]) else "")


def _is_old_tar(block: bytes) -> bool:
    digits = block[148:156].strip(b" \0")
    if len(block) < 512 or not digits.isdigit() or not set(digits) <= set(b"01234567"):
        return False
    return int(digits, 8) == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])


def declared_format_of(head: bytes, name: str, asked: str) -> str:
    """Format of plain bytes that say themselves what they are, before any encoding is looked for; "" if they do not.

    Raises DamagedFile for what is not read: empty, archives within archives, other programs' formats.
    """
    if not head:
        raise DamagedFile("empty file")
    found = next((kind for magic, kind in _BINARY_FORMATS if head.startswith(magic)), "")
    if not found and head.startswith(b"\xff\xff\xff\xff") and 0 < int.from_bytes(head[4:8], "little") < 1 << 28:
        found = "arrow"
    if found:
        return found
    if compression_of(head):
        raise DamagedFile("compressed twice", "decompress it once")
    if archive_of(head):
        raise DamagedFile("archive inside an archive", "unpack it once")
    _refuse_foreign(head)
    if asked in ("parquet", "arrow", "warc"):
        raise DamagedFile(
            f"not {'an' if asked == 'arrow' else 'a'} {_TITLES[asked]} file", "it does not begin like one"
        )
    if asked == "html" or (asked == "auto" and _is_html(head, name)):
        return "html"
    return ""


def _is_html(head: bytes, name: str) -> bool:
    start = head.removeprefix(codecs.BOM_UTF8)
    if _HTML.match(start):
        return True
    by_name = suffix_of(name) in (".html", ".htm", ".xhtml") and start.lstrip()[:1] == b"<"
    return by_name and not (_XML.match(start) or _MEDIAWIKI.match(start))


def format_of(head: bytes, name: str, asked: str) -> str:
    """Format of UTF-8 text that begins with `head` (mark removed). `asked` other than "auto" wins over guessing.

    Raises DamagedFile for binary data and for XML that is no MediaWiki dump.
    """
    markup = _markup_of(head, name, asked)
    if markup:
        return markup
    guess = asked if asked != "auto" else _guess(head, suffix_of(name))
    if asked == "auto" and guess == "text" and _is_index_of_dump(head):
        raise DamagedFile(INDEX_OF_DUMP, "give the dump itself, or set format: text to read the index")
    if guess == "text" or head.lstrip()[:1] not in (b"{", b"["):
        _refuse_binary(head)
    return guess


def _is_index_of_dump(head: bytes) -> bool:
    """Whether all lines are `offset:page:title`, with offsets that never fall: Wikimedia's index of a dump."""
    if not _INDEX_LINE.match(head):
        return False
    lines = head.splitlines()[: -1 if len(head) >= HEAD_BYTES else None]
    found = [_INDEX_LINE.match(line) for line in lines]
    offsets = [int(match[1]) for match in found if match]
    return 0 < len(offsets) == len(lines) and offsets[0] >= _FIRST_OFFSET and offsets == sorted(offsets)


def _markup_of(head: bytes, name: str, asked: str) -> str:
    """ "mediawiki" or "html" for what is one and may be; "" for what is no markup, or asked for as something else."""
    if asked in ("auto", "mediawiki"):
        if _MEDIAWIKI.match(head):
            return "mediawiki"
        if asked == "auto" and _is_html(head, name):
            return "html"
        if _DOCUMENT_TYPE.match(head):
            raise DamagedFile("XML with a document type", "entities are never expanded; remove the <!DOCTYPE>")
        if asked == "mediawiki":
            raise DamagedFile("not a MediaWiki dump", "it does not begin with <mediawiki>")
    named_xml = asked == "auto" and suffix_of(name) == ".xml" and head.lstrip()[:1] == b"<"
    if asked != "text" and (named_xml or _XML.match(head)):
        raise DamagedFile("XML is not read but for MediaWiki dumps", "convert it to text or JSON lines")
    return ""


def _refuse_foreign(head: bytes) -> None:
    for magic, reason in _REFUSED:
        if head.startswith(magic):
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
    if named in ("parquet", "arrow", "html", "warc", "mediawiki"):
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
