"""A seed -> a dump of made-up articles in the markup of a large Wikipedia, packed as Wikimedia packs it.

    words (Zipf) --> sentences with links, notes and templates --> sections, lists, tables, boxes --> pages --> streams

What is how frequent follows the English Wikipedia: about half of the bytes of an article are text; a link every ten
words, a note every thirty, most of them with a citation template; a box at the top; three in ten pages redirects.
Invariant: the same seed and size give the same bytes.
"""

from __future__ import annotations

import bz2
import random
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

PAGES_A_STREAM = 100
HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Made-up</sitename><dbname>madewiki</dbname><base>https://example.org/wiki/Main_Page</base>
    <namespaces><namespace key="0" /><namespace key="1">Talk</namespace><namespace key="6">File</namespace>
    <namespace key="10">Template</namespace><namespace key="14">Category</namespace></namespaces>
  </siteinfo>
"""
FOOTER = "</mediawiki>\n"
SYLLABLES = (
    "ba be ca co da de el en er fa fi ga ge ha he in is ka la le li ma mi na ne no or pa ra re ri sa se st ta te ti"
)
VOCABULARY = 30_000
SIGNS = ("–", "—", "é", "ü", "“", "ā", "&nbsp;", "&ndash;")


class Writer:
    """Makes pages from one random generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        syllables = SYLLABLES.split()
        self.words = [
            "".join(self.rng.choices(syllables, k=self.rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(VOCABULARY)
        ]
        self.weights = [1 / (rank + 3) for rank in range(VOCABULARY)]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def some(self, low: int, high: int) -> str:
        """A few words."""
        return " ".join(self.rng.choices(self.words, cum_weights=self.cumulative, k=self.rng.randint(low, high)))

    @property
    def cumulative(self) -> list[float]:
        """Zipf's weights, summed up once."""
        if not hasattr(self, "_cumulative"):
            total, self._cumulative = 0.0, []
            for weight in self.weights:
                total += weight
                self._cumulative.append(total)
        return self._cumulative

    def word(self) -> str:
        return self.some(1, 1)

    def name(self) -> str:
        return self.some(1, 3).title()

    def link(self) -> str:
        if self.chance(0.45):
            return f"[[{self.name()}{self.rng.choice(('', '', ' (film)', '#' + self.name()))}|{self.some(1, 3)}]]"
        return f"[[{self.some(1, 2).capitalize()}]]" + ("s" if self.chance(0.1) else "")

    def cited(self) -> str:
        kind, year = self.rng.choice(("web", "web", "book", "news", "journal")), self.rng.randint(1950, 2024)
        return (
            f"{{{{cite {kind} |url=https://{self.word()}.example.org/{self.word()}/{year} "
            f"|title={self.some(4, 9).title()} "
            f"|last={self.name()} |first={self.name()} |date={self.rng.randint(1, 28)} May {year} "
            f"|publisher=[[{self.name()}]] |access-date={year}-0{self.rng.randint(1, 9)}-11 "
            f"|archive-url=https://web.archive.org/web/{year}/{self.word()}}}}}"
        )

    def note(self) -> str:
        kind = self.rng.random()
        if kind < 0.25:
            return f'<ref name="{self.word()}{self.rng.randint(1, 40)}" />'
        if kind < 0.85:
            return f"<ref{f' name={self.word()}' if kind < 0.4 else ''}>{self.cited()}</ref>"
        return self.rng.choice(
            (f"{{{{sfn|{self.name()}|{self.rng.randint(1900, 2020)}|p=12}}}}", f"<ref>{self.some(6, 15)}.</ref>")
        )

    def template(self) -> str:
        return self.rng.choice(
            (
                f"{{{{convert|{self.rng.randint(2, 900)}|km|mi|abbr=on}}}}",
                f"{{{{lang|fr|{self.some(1, 3)}}}}}",
                f"{{{{circa|{self.rng.randint(900, 1900)}}}}}",
                f"{{{{nowrap|{self.some(2, 3)}}}}}",
                "{{citation needed|date=May 2020}}",
                f"{{{{IPAc-en|{'|'.join(self.word())}}}}}",
                f"{self.rng.randint(2, 99)} m<sup>2</sup>",
                f"<math>{self.word()}_{{1}} + \\frac{{1}}{{{self.rng.randint(2, 9)}}}</math>",
            )
        )

    def sentence(self) -> str:
        words: list[str] = []
        for _ in range(self.rng.randint(9, 28)):
            kind = self.rng.random()
            if kind < 0.1:
                words.append(self.link())
            elif kind < 0.118:
                words.append(self.template())
            elif kind < 0.135:
                words.append(f"''{self.some(1, 3)}''")
            elif kind < 0.15:
                words.append(self.rng.choice(SIGNS) + self.word())
            else:
                words.append(self.word() + ("," if kind > 0.95 else ""))
        text = " ".join(words)
        return f"{text[:1].upper()}{text[1:]}." + (self.note() if self.chance(0.55) else "")

    def paragraph(self) -> str:
        return " ".join(self.sentence() for _ in range(self.rng.randint(2, 7))) + "\n"

    def box(self) -> str:
        rows = "".join(f"| {self.word()} = {self.value()}\n" for _ in range(self.rng.randint(8, 25)))
        return f"{{{{Infobox {self.word()}\n{rows}}}}}\n"

    def value(self) -> str:
        kind = self.rng.random()
        if kind < 0.3:
            return self.link()
        if kind < 0.4:
            year, month, day = self.rng.randint(1800, 1990), self.rng.randint(1, 12), self.rng.randint(1, 28)
            return f"{{{{birth date|{year}|{month}|{day}|df=y}}}}"
        if kind < 0.5:
            return f"{{{{ubl|{self.link()}|{{{{nowrap|{self.link()} {self.note()}}}}}}}}}"
        return self.some(1, 5)

    def table(self) -> str:
        rows = "".join(
            f'|-\n| style="text-align:left;" | {self.link()} || {self.rng.randint(1, 99)} '
            f"|| {self.name()} {self.note()}\n"
            for _ in range(self.rng.randint(4, 30))
        )
        head = f"|+ {self.some(2, 4)}\n! {self.name()} !! {self.name()} !! {self.name()}\n"
        return f'{{| class="wikitable sortable"\n{head}{rows}|}}\n'

    def section(self, level: int) -> str:
        parts = [f"{'=' * level} {self.name()} {'=' * level}\n"]
        if self.chance(0.3):
            parts.append(f"[[File:{self.name()}.jpg|thumb|upright|{self.sentence()}]]\n")
        if self.chance(0.2):
            parts.append(f"{{{{main|{self.name()}}}}}\n")
        parts += (self.paragraph() + "\n" for _ in range(self.rng.randint(1, 5)))
        if self.chance(0.25):
            parts += (f"* {self.link()} {self.some(2, 9)}{self.note()}\n" for _ in range(self.rng.randint(3, 15)))
        if self.chance(0.12):
            parts.append(self.table())
        if self.chance(0.1):
            parts.append(f"<!-- {self.some(4, 12)} -->\n")
        return "".join(parts)

    def article(self, title: str) -> str:
        """One article's wikitext; lengths are as uneven as real ones."""
        parts = [f"{{{{Short description|{self.some(3, 6)}}}}}\n"]
        if self.chance(0.6):
            parts.append(self.box())
        parts.append(f"'''{title}''' ({{{{IPA-fr|{self.word()}}}}}; {self.some(1, 2)}) is a {self.paragraph()}\n")
        for _ in range(min(40, int(self.rng.paretovariate(0.9)))):
            parts.append(self.section(2))
            parts += (self.section(3) for _ in range(self.rng.choice((0, 0, 1, 3))))
        parts.append("== See also ==\n" + "".join(f"* {self.link()}\n" for _ in range(self.rng.randint(1, 6))))
        parts.append("\n== References ==\n{{reflist|30em}}\n\n== External links ==\n* {{official website}}\n")
        parts.append(
            f"* [https://example.org/{self.word()} {self.some(2, 5)}]\n{{{{{self.name()} navbox}}}}\n"
            "{{Authority control}}\n"
        )
        parts += (f"[[Category:{self.name()}]]\n" for _ in range(self.rng.randint(2, 9)))
        return "".join(parts)

    def page(self, number: int) -> str:
        """One page as XML: an article, a redirect, a talk page or a list of meanings."""
        title, kind, namespace, redirect = f"{self.name()} {number}", self.rng.random(), 0, ""
        if kind < 0.3:
            target = self.name()
            text, redirect = f"#REDIRECT [[{target}]]\n\n{{{{R from move}}}}", f'    <redirect title="{target}" />\n'
        elif kind < 0.34:
            text, namespace, title = self.paragraph(), 1, f"Talk:{title}"
        elif kind < 0.36:
            text = (
                f"'''{title}''' may refer to:\n"
                + "".join(f"* {self.link()}\n" for _ in range(5))
                + "{{disambiguation}}\n"
            )
        else:
            text = self.article(title)
        return (
            f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{redirect}"
            f"    <revision>\n      <id>{number * 7}</id>\n      <timestamp>2026-01-01T00:00:00Z</timestamp>\n"
            f"      <contributor><username>{self.name()}</username><id>5</id></contributor>\n"
            f"      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
            f'      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text)}</text>\n'
            f"      <sha1>{self.rng.getrandbits(150):x}</sha1>\n    </revision>\n  </page>\n"
        )


def pages(megabytes: float, seed: int) -> Iterator[str]:
    """Pages until there are so many megabytes of XML."""
    writer, number, size = Writer(seed), 0, 0
    while size < megabytes * 1e6:
        number += 1
        page = writer.page(number)
        size += len(page.encode())
        yield page


def write(path: Path, megabytes: float, seed: int) -> None:
    """A multistream .xml.bz2: header, a hundred pages a stream, end."""
    with path.open("wb") as file:
        file.write(bz2.compress(HEADER.encode()))
        group: list[str] = []
        for page in pages(megabytes, seed):
            group.append(page)
            if len(group) == PAGES_A_STREAM:
                file.write(bz2.compress("".join(group).encode()))
                group = []
        file.write(bz2.compress("".join(group).encode()))
        file.write(bz2.compress(FOOTER.encode()))
