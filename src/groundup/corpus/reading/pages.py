"""Bytes of an HTML page -> its main text, title and language; what is around it (menus, banners, footers) is left out.

    bytes --charset: mark, asked for, server, page, UTF-8, detection--> HTML --EXTRACTORS[name]--> text

To add an extractor: one function and one line in EXTRACTORS, its name in `sources.Extractor`.

Invariant: nothing a page holds raises or runs; the characters come from one encoding that fits all its bytes.
"""

from __future__ import annotations

import html
import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from groundup.corpus.optional import load
from groundup.corpus.reading.alphabets import is_spelled, is_western
from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encoding_names import Encoding, as_in_browsers, byte_order_mark, codec_of, named
from groundup.corpus.reading.encodings import MULTI_BYTE, Transcoder, detect, find_encoding
from groundup.corpus.reading.page_markup import as_plain_markup, lists_as_lines

_META_BYTES = 4096
"""How far a page's own declaration is looked for; browsers take 1024, many pages have it a little later."""
_META = re.compile(
    rb"""<meta[^>]{0,300}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})"""
    rb"""|<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9_.-]{2,40})""",
    re.IGNORECASE,
)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,2000})</title", re.IGNORECASE)
_LANGUAGE = re.compile(r"<html[^>]{0,500}?\slang\s*=\s*[\"']?([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3})", re.IGNORECASE)
_HEAD_CHARACTERS = 1 << 16
_FOREIGN_BYTES = bytes(range(128, 256))
_ENOUGH_TO_CONTRADICT = 64
_SAMPLE_BYTES = 1 << 13
_BLANK_LINES = re.compile(r"\n{3,}")
PAGE_LIMIT_BYTES: Final = 4 << 20
ELEMENT_LIMIT: Final = 250_000
"""Larger pages are refused: trafilatura takes 40 s and 1 GB for a million tags. Common Crawl cuts pages at 1 MiB."""
DEPTH_LIMIT: Final = 5_000
"""Elements open at once above which a page is refused: parsers recurse into them. Browsers stop at 512."""
ATTRIBUTE_LIMIT: Final = 5_000
"""Attributes of one element above which a page is refused: parsers compare each with each."""
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]{0,30})[^<>]{0,20000}?(/?)>")
_LONG_TAG = re.compile(r"<[A-Za-z][^<>]{20000,}")
_VALUE = re.compile(r"""=\s*(?:"[^"]*"|'[^']*')""")
_NEVER_NESTED = re.compile(
    r"area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr|p|li|td|tr|th|dt|dd|option|tbody|thead",
    re.IGNORECASE,
)
_FORM_WITHOUT_TEXT = "form:not(:has(p, article, h1, h2, table))"
"""Some sites have the whole page in a form."""


@dataclass(frozen=True)
class Page:
    """The text of a page and what it says of itself; `language` as declared, not detected."""

    text: str
    title: str
    language: str
    encoding: Encoding


def read_page(
    data: bytes, extractor: str, comments: bool, declared: str = "", asked: str = "", replace: bool = False
) -> Page:
    """Main text of one HTML page. `declared`: charset label of the server; `asked`: encoding that the user gives.

    Raises DamagedFile when no encoding fits, and for what would take a parser minutes or its stack.
    """
    if len(data) > PAGE_LIMIT_BYTES:
        raise DamagedFile("page too large", f"{len(data)} bytes, the limit is {PAGE_LIMIT_BYTES}")
    markup, encoding = decode_page(data, declared, asked, replace)
    _refuse_bombs(markup)
    head = markup[:_HEAD_CHARACTERS]
    title, language = _TITLE.search(head), _LANGUAGE.search(head)
    lines = EXTRACTORS[extractor](as_plain_markup(markup), comments).split("\n")
    return Page(
        _BLANK_LINES.sub("\n\n", "\n".join(map(str.rstrip, lines))).strip(),
        " ".join(html.unescape(title[1]).split()) if title else "",
        language[1] if language else "",
        encoding,
    )


def decode_page(data: bytes, declared: str = "", asked: str = "", replace: bool = False) -> tuple[str, Encoding]:
    """Characters of a page, and the encoding: byte order mark, asked for, valid UTF-8, server, the page's own, found.

    UTF-8 beyond ASCII comes before what server and page say: text is UTF-8 by chance only when it is very short, and
    declarations are often wrong. A declaration also yields to another encoding that is certain.
    """
    marked, mark_bytes = byte_order_mark(data[:4])
    if marked or asked:
        encoding = Encoding(marked, "mark") if marked else Encoding(asked, "given")
        return _decoded(data[mark_bytes:], encoding, replace), encoding
    says = [as_in_browsers(name) for label in (declared, _declared_in(data)) if label and (name := named(label))]
    legacy = [name for name in says if not name.startswith("UTF")]
    if not _is_escaped(legacy) and not _may_hide_characters(data):
        try:
            return data.decode("utf-8"), Encoding("UTF-8", "declared" if "UTF-8" in says else "")
        except UnicodeDecodeError:
            pass
    for name in legacy:
        try:
            markup = _decoded(data, Encoding(name, "declared"), False)
        except DamagedFile:
            continue
        other = _contradicted(data, markup, name)
        return (_decoded(data, other, False), other) if other else (markup, Encoding(name, "declared"))
    if replace and says:
        encoding = Encoding(says[0], "declared")
        return _decoded(data, encoding, True), encoding
    encoding, _ = find_encoding(io.BytesIO(data))
    return _decoded(data, encoding, replace), encoding


def _contradicted(data: bytes, markup: str, name: str) -> Encoding | None:
    """The encoding that a page is in where that is certain and not the declared `name`, which its bytes fit as well.

    Servers say ISO-8859-1 of pages in any encoding, and most bytes of Big5 are characters of GB18030.
    """
    foreign = len(data) - len(data.translate(None, _FOREIGN_BYTES))
    if foreign < _ENOUGH_TO_CONTRADICT:
        return None
    sample = _foreign_sample(data)
    text = sample.decode(codec_of(name), "ignore")
    if name not in MULTI_BYTE and (is_spelled(text) or is_western(text)):
        return None
    try:
        found = Encoding(detect(sample), "detected")
        if found.name == name:
            return None
        other = _decoded(data, found, False)
    except DamagedFile:
        return None
    differing = sum(a != b for a, b in zip(markup, other)) if len(markup) == len(other) else foreign
    return found if differing > foreign / 2 else None  # else they are sisters, as ISO-8859-15 and Windows-1252 are


def _foreign_sample(data: bytes) -> bytes:
    """The first lines with bytes beyond ASCII, cut at a line's or a tag's end."""
    sample = b"\n".join(line for line in data.split(b"\n") if not line.isascii())
    cut = max(sample.rfind(b"\n", 0, _SAMPLE_BYTES), sample.rfind(b">", 0, _SAMPLE_BYTES)) + 1
    return sample[:cut] if len(sample) > _SAMPLE_BYTES and cut else sample[: 4 * _SAMPLE_BYTES]


def _is_escaped(names: list[str]) -> bool:
    """Whether a declared encoding hides its characters in ASCII bytes."""
    return any(name.startswith("ISO-2022") or name == "HZ" for name in names)


def _may_hide_characters(data: bytes) -> bool:
    """Whether bytes that are valid UTF-8 may be UTF-16, ISO-2022 or HZ all the same."""
    return b"\0" in data or (data.isascii() and (b"\x1b" in data or b"~{" in data))


def _declared_in(data: bytes) -> str:
    found = _META.search(_COMMENT.sub(b"", data[:_META_BYTES]))
    return (found[1] or found[2]).decode("ascii") if found else ""


def _decoded(data: bytes, encoding: Encoding, replace: bool) -> str:
    handle: BinaryIO = io.BytesIO(data)
    return b"".join(Transcoder(handle, encoding, replace).blocks()).decode()


def _refuse_bombs(markup: str) -> None:
    tags = markup.count("<")
    if tags > ELEMENT_LIMIT:
        raise DamagedFile("page with too many elements", f"{tags} tags, the limit is {ELEMENT_LIMIT}")
    if tags > DEPTH_LIMIT and _is_deeper(markup, DEPTH_LIMIT):
        raise DamagedFile("page nested too deeply", f"more than {DEPTH_LIMIT} open elements")
    if any(len(_VALUE.sub(" ", tag[0]).split()) > ATTRIBUTE_LIMIT for tag in _LONG_TAG.finditer(markup)):
        raise DamagedFile("page with too many attributes", f"more than {ATTRIBUTE_LIMIT} in one element")


def _is_deeper(markup: str, limit: int) -> bool:
    """Whether more elements than `limit` are open at once; counts tags only, so real pages are less deep."""
    depth = 0
    for match in _TAG.finditer(markup):
        if not _NEVER_NESTED.fullmatch(match[2]) and not match[3]:
            depth = max(0, depth + (-1 if match[1] else 1))
            if depth > limit:
                return True
    return False


def _by_trafilatura(markup: str, comments: bool) -> str:
    """trafilatura: the better text (F1), at a sixth of the speed."""
    trafilatura = load("trafilatura", "extractor: trafilatura")
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # an empty page is no error of the program
    return str(trafilatura.extract(markup, include_comments=comments, include_tables=True, fast=True) or "")


def _by_resiliparse(markup: str, comments: bool) -> str:
    """Resiliparse: rules over a fast parser in Rust. Its rules drop every `<ul>` and keep the words of small forms, so
    lists that are no menus become lines before, and forms around no text are left out.
    """
    html2text = load("resiliparse.extract.html2text", "extractor: resiliparse")
    options = {"main_content": True, "alt_texts": False, "comments": comments, "skip_elements": [_FORM_WITHOUT_TEXT]}
    return str(html2text.extract_plain_text(lists_as_lines(markup), preserve_formatting=True, **options))


EXTRACTORS: dict[str, Callable[[str, bool], str]] = {"trafilatura": _by_trafilatura, "resiliparse": _by_resiliparse}
