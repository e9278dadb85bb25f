"""A MediaWiki dump -> a row for each article, or why a page is none.

    dump -> header (language, namespaces) -> pages -> fields, wikitext -> plain text -> Row | Rejected

Invariant: each page is parsed on its own, without document types or entities, so one that is broken or hostile costs
nothing but itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.records import Rejected, Row
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki.names import REDIRECTS
from groundup.corpus.reading.wiki.pages import PageCutter, Unusable, find_page
from groundup.corpus.reading.wiki.streams import Section, SectionBlocks
from groundup.corpus.reading.wiki.wikitext import Dialect, plain_text

_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 20
_HEADER_END = b"</siteinfo>"
_MAX_XML_DEPTH = 20
_FIELDS = {
    (2, "title"): "title",
    (2, "ns"): "namespace",
    (2, "id"): "id",
    (3, "id"): "revision",
    (3, "timestamp"): "timestamp",
    (3, "model"): "model",
    (3, "text"): "text",
}
_REDIRECT = re.compile(rf"\s*#\s?(?:{'|'.join(sorted(REDIRECTS))})\s*:?\s*\[\[", re.IGNORECASE)

_ANY_REDIRECT = re.compile(r"#([^\W\d_]{4,}) ?:? ?\[\[[^\[\]\n]+\]\]")


class _Refused(Exception):
    """XML that is well-formed, perhaps, but nothing that a dump holds."""


@dataclass
class Header:
    """What a dump says of itself."""

    language: str = ""
    wiki: str = ""
    license: str = ""
    namespaces: dict[int, str] = field(default_factory=dict)
    has_root: bool = False
    fault: str = ""
    """Why it could not be read to its end."""


def read_dump(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """All pages of a whole dump in plain XML (UTF-8). Raises DamagedFile when its header is refused."""
    start = handle.tell()
    header = read_header(iter(lambda: handle.read(_BLOCK_BYTES), b""))
    handle.seek(start)
    cutter = PageCutter(lambda offset: True, True, header.has_root, 2 * source.max_document_bytes)
    yield from _fault(header)
    yield from _rows(cutter.cut(iter(lambda: handle.read(_BLOCK_BYTES), b"")), header, source)


def read_section(handle: BinaryIO, section: Section, source: SourceConfig, folder: Path) -> Iterator[Row | Rejected]:
    """The pages that begin in a section of a dump, which lies packed or plain in `handle`."""
    whole = Section(0, 0, section.end, section.compression)
    start = (
        block for block in SectionBlocks(handle, whole, folder, source.max_expanded_bytes) if isinstance(block, bytes)
    )
    header = read_header(start)
    start.close()
    blocks = SectionBlocks(handle, section, folder, source.max_expanded_bytes)

    def is_owned(offset: int) -> bool:
        return blocks.owned_bytes is None or offset < blocks.owned_bytes

    if section.number == 0:
        yield from _fault(header)
    cutter = PageCutter(is_owned, section.number == 0, header.has_root, 2 * source.max_document_bytes)
    yield from _rows(cutter.cut(blocks), header, source)


def read_header(blocks: Iterable[bytes]) -> Header:
    """What stands before the first page. Raises DamagedFile for a document type or a header without end."""
    data = b""
    for block in blocks:
        data += block
        ends = [end for end in (find_page(data), data.find(_HEADER_END)) if end >= 0]
        found = min(ends, default=-1)
        if found >= 0 or len(data) > _HEADER_BYTES:
            data = data[: found if found >= 0 else len(data)]
            break
    if len(data) > _HEADER_BYTES:
        raise DamagedFile("damaged MediaWiki dump", f"no <page> in the first {_HEADER_BYTES} bytes")
    return _HeaderParser().parse(data)


def _fault(header: Header) -> Iterator[Rejected]:
    if header.fault:
        yield Rejected("damaged header of a MediaWiki dump", 0, header.fault)


class _HeaderParser:
    """Reads <siteinfo>."""

    def __init__(self) -> None:
        self._header = Header()
        self._text: list[str] = []
        self._namespace = 0

    def parse(self, data: bytes) -> Header:
        parser = expat.ParserCreate("utf-8")
        parser.StartDoctypeDeclHandler = _refuse_document_type
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        try:
            parser.Parse(data, False)
        except _Refused as error:
            raise DamagedFile(str(error), "entities are never expanded; remove the <!DOCTYPE>") from None
        except expat.ExpatError as error:
            self._header.fault = str(error)
        return self._header

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._text.clear()
        if name == "mediawiki":
            self._header.has_root = True
            self._header.language = attributes.get("xml:lang", "")[:20]
        elif name == "namespace":
            key = attributes.get("key", "")
            self._namespace = int(key) if key.lstrip("-").isdecimal() and len(key) < 8 else 0

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        if name == "namespace":
            self._header.namespaces[self._namespace] = text
        elif name == "dbname":
            self._header.wiki = text
        elif name in ("rights", "license", "licence"):
            self._header.license = text


def _refuse_document_type(*_: object) -> None:
    raise _Refused("XML with a document type")


def _rows(pages: Iterable[bytes | Unusable], header: Header, source: SourceConfig) -> Iterator[Row | Rejected]:
    dialect = Dialect.of(header.language, header.namespaces, source.wiki)
    number = 0
    for page in pages:
        if isinstance(page, bytes):
            number += 1
            yield _row(page, number, header, dialect, source.text_field)
        else:
            number += page.is_page
            yield Rejected(page.reason, number if page.is_page else 0, page.detail)


def _row(page: bytes, number: int, header: Header, dialect: Dialect, text_field: str) -> Row | Rejected:
    try:
        values = _PageParser().parse(page)
    except _Refused as error:
        return Rejected(str(error), number, page[:120].decode("utf-8", "replace"))
    except expat.ExpatError as error:
        return Rejected("page that is not well-formed XML", number, str(error))
    title, text = values.get("title", ""), values.get("text", "")
    reason = _reason_to_pass(values, text, header, dialect)
    if reason:
        return Rejected(reason, number, title)
    article = plain_text(text, dialect, title)
    if article.is_disambiguation and dialect.config.disambiguation == "drop":
        return Rejected("disambiguation page", number, title)
    if not article.text:
        return Rejected("page without text but markup", number, title)
    about = {
        "id": _number(values.get("id", "")),
        "title": title,
        "namespace": _namespace(values, header),
        "revision": _number(values.get("revision", "")),
        "timestamp": values.get("timestamp", ""),
        "language": header.language,
        "wiki": header.wiki,
        "license": header.license,
    }
    known = {name: value for name, value in about.items() if value != "" and value is not None}
    return Row(number, {**known, text_field: article.text}, kept=tuple(known))


def _reason_to_pass(values: dict[str, str], text: str, header: Header, dialect: Dialect) -> str:
    if "redirect" in values or (text.lstrip()[:1] == "#" and _is_redirect(text)):
        return "redirect"
    if _namespace(values, header) not in dialect.config.namespaces:
        return "page outside wiki.namespaces"
    if values.get("model", "wikitext") not in ("wikitext", ""):
        return "page that is no wikitext"
    return "" if text.strip() else "empty page"


def _is_redirect(text: str) -> bool:
    """Whether a text is `#WORD [[target]]`, with a known word, or nothing but any in capitals and a link."""
    if _REDIRECT.match(text):
        return True
    found = _ANY_REDIRECT.fullmatch(text.strip())
    return bool(found and found[1].isupper())


def _namespace(values: dict[str, str], header: Header) -> int:
    """The page's namespace; dumps before 2012 tell it by the title only."""
    number = _number(values.get("namespace", ""))
    if number is not None:
        return number
    prefix, colon, _ = values.get("title", "").partition(":")
    return next((key for key, name in header.namespaces.items() if colon and name == prefix), 0)


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.lstrip("-").isdecimal() and len(digits) < 19 else None


class _PageParser:
    """The fields of one page; of several revisions the last."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._pieces: list[str] = []
        self._depth = 0
        self._field = ""

    def parse(self, page: bytes) -> dict[str, str]:
        """Raises ExpatError when it is not well-formed, _Refused when no dump holds such a page."""
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(page, True)
        return self._values

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_XML_DEPTH:
            raise _Refused("page nested too deeply")
        if self._field:
            raise _Refused(f"element inside <{self._field}>")
        if self._depth == 2 and name == "redirect":
            self._values["redirect"] = attributes.get("title", "")
        self._field = _FIELDS.get((self._depth, name), "")
        self._pieces.clear()

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._field:
            self._values[self._field] = "".join(self._pieces)
            self._field = ""

    def _characters(self, data: str) -> None:
        if self._field:
            self._pieces.append(data)
