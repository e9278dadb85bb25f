"""Dumps made for tests: the XML that MediaWiki exports, as small as it goes."""

from __future__ import annotations

import bz2
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from groundup.config import build
from groundup.corpus.documents import Document
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig

HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Testwiki</sitename>
    <dbname>testwiki</dbname>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Abbildung</namespace>
      <namespace key="14" case="first-letter">Sachgruppe</namespace>
    </namespaces>
  </siteinfo>
"""
FOOTER = "</mediawiki>\n"


def page(number: int, text: str, title: str = "", namespace: int = 0, more: str = "", model: str = "wikitext") -> str:
    """One page of one revision."""
    return f"""  <page>
    <title>{escape(title or f"Page {number}")}</title>
    <ns>{namespace}</ns>
    <id>{number}</id>
{more}    <revision>
      <id>{1000 + number}</id>
      <timestamp>2026-01-02T03:04:05Z</timestamp>
      <contributor><username>A</username><id>7</id></contributor>
      <model>{model}</model>
      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text)}</text>
    </revision>
  </page>
"""


def dump(*pages: str) -> bytes:
    """A whole dump."""
    return (HEADER + "".join(pages) + FOOTER).encode()


def multistream(pages: Iterable[str], in_one: int) -> bytes:
    """A dump as Wikimedia packs it: header, groups of pages and footer each in a bz2 stream of its own."""
    pages = list(pages)
    groups = ["".join(pages[i : i + in_one]) for i in range(0, len(pages), in_one)]
    return b"".join(bz2.compress(part.encode()) for part in (HEADER, *groups, FOOTER))


def read(path: Path, **options: object) -> tuple[Reading, list[Document | Rejected]]:
    """All records of one file."""
    source = build(SourceConfig, {"name": "s", "path": "s", **options}, "test")
    reading = Reading(RawFile(path.name, path), source, path.parent)
    return reading, list(reading)
