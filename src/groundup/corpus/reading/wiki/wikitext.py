"""Wikitext -> plain text that reads well.

    elements (comments, refs, nowiki, TeX, code)  -->  templates, links, conversions, from the inside to the outside
    -->  tables  -->  external links, magic words, quotes, tags, entities  -->  lines  -->  literals put back

Each step is one pass of patterns that cannot go back over what they read: a repeated part is possessive and stops at
the next sign that could begin or end the same thing.

Invariant: time is linear in the length whatever the markup; nothing is dropped but what a page does not show, or shows
as a picture, a reference, a box or (unless asked for) a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from groundup.corpus.reading.wiki.brackets import resolve
from groundup.corpus.reading.wiki.inline import INLINE_TAG, unescaped, without_inline_markup
from groundup.corpus.reading.wiki.lines import lay_out
from groundup.corpus.reading.wiki.links import shown
from groundup.corpus.reading.wiki.marks import BREAK, GAP, LINE, LITERAL_END, LITERAL_START, in_lines, without_marks
from groundup.corpus.reading.wiki.names import CATEGORIES, DISAMBIGUATIONS, FILES
from groundup.corpus.reading.wiki.options import WikiConfig
from groundup.corpus.reading.wiki.tables import replace_tables
from groundup.corpus.reading.wiki.templates import Rules, expand
from groundup.corpus.reading.wiki.variants import choose_variant

_ELEMENTS = re.compile(
    r"<!--.*?(?:-->|\Z)|<(ref|references|nowiki|pre|math|chem|ce|syntaxhighlight|source|gallery|timeline|score|graph|mapframe"
    r"|maplink|imagemap|templatestyles|templatedata|hiero|indicator|inputbox|categorytree|includeonly|style|script|rp|poem)\b"
    r"([^<>]*+)(?:(?<=/)>|>((?:[^<]++|<(?!/?\1\b))*+)</\1\s*+>)",
    re.IGNORECASE | re.DOTALL,
)
_VERBATIM = frozenset(("nowiki", "math", "chem", "ce", "gallery", "pre", "syntaxhighlight", "source", "poem"))
_BLOCKS = frozenset(("pre", "syntaxhighlight", "source"))
_GALLERY_OPTIONS = re.compile(r"(?:(?:alt|link|class)=[^|\n]*+\|)++")
_PIPED_LINK = re.compile(r"\[\[[^\[\]{}|:\n]*+\|([^\[\]{}|=\n]++)\]\]")
_PLAIN_LINK = re.compile(r"\[\[([^\[\]{}|:\n#=]++)\]\]")
_HALF_LINK = re.compile(r"\[\[([^\[\]\n]*+)\](?!\])|(?<!\[)\[([^\[\]\n]*+)\]\]")
_UNCLOSED_BOX = re.compile(r"\n\{\{[^\n]*+(?:\n[ \t]*+\|[^\n]*+)++")
_LEFTOVER = re.compile(r"\[\[++|\]\]++|\{\{++|\}\}++|\{\||\|\}")
_MEETINGS = 3
"""How often single brackets may become double ones because what stood between them went."""
_MAGIC_WORD = re.compile(r"__([^\W\d_](?:[^\W\d_]|_(?!_))*+)__")
_LITERAL = re.compile(f"{LITERAL_START}([0-9]+){LITERAL_END}")


@dataclass(frozen=True)
class Dialect:
    """How one wiki writes: its names for files and categories, the rules of its templates, and what was asked for."""

    config: WikiConfig
    rules: Rules
    files: frozenset[str] = FILES
    categories: frozenset[str] = CATEGORIES

    @classmethod
    def of(cls, language: str, namespaces: Mapping[int, str], config: WikiConfig) -> Dialect:
        """The dialect of a wiki in `language` whose namespaces have these names."""
        files = {namespaces.get(number, "").lower() for number in (6, -2)} - {""}
        categories = {namespaces.get(14, "").lower()} - {""}
        return cls(config, Rules.of(language, config.templates), FILES | files, CATEGORIES | categories)


@dataclass(frozen=True)
class Article:
    """The text of a page, and whether it only lists the meanings of a name."""

    text: str
    is_disambiguation: bool


def plain_text(wikitext: str, dialect: Dialect, title: str = "") -> Article:
    """The readable text of a page. Never raises for what the page holds."""
    return _Page(dialect, title).convert(wikitext)


class _Page:
    """One page on its way: the literals put aside, and what was noticed."""

    def __init__(self, dialect: Dialect, title: str) -> None:
        self.dialect, self.title = dialect, title
        self.literals: list[str] = []
        self.is_disambiguation = False

    def convert(self, wikitext: str) -> Article:
        text = "\n" + without_marks(wikitext) + "\n"
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if "<" in text:
            text = _ELEMENTS.sub(self._element, text)
            if "<ref" in text:  # one within another, which was taken first
                text = _ELEMENTS.sub(self._element, text)
            if LINE in text:
                text = text.replace(LINE + "\n", "").replace(LINE, "")
        if "[" in text:  # most links hold nothing and need no decision: both splits and joins run without Python code
            text = "".join(_PLAIN_LINK.split("".join(_PIPED_LINK.split(text))))
        text = resolve(text, self._render)
        if "{" in text and "{|" in text:
            text = replace_tables(text, self.dialect.config.tables == "rows")
        if "{" in text and "{{" in text:
            text = _UNCLOSED_BOX.sub("\n", text)
        if _is_left_over(text):
            text = _LEFTOVER.sub("", _HALF_LINK.sub(_half_link, text))
        if "_" in text and "__" in text:
            text = _MAGIC_WORD.sub(self._magic_word, text)
        text = lay_out(without_inline_markup(text))
        for _ in range(_MEETINGS):
            if not _is_left_over(text):
                break
            text = lay_out(_LEFTOVER.sub("", text))
        if "&" in text:
            text = unescaped(text)
        if self.literals:
            text = self._with_literals(text).strip()
        return Article(text, self.is_disambiguation)

    def _element(self, match: re.Match[str]) -> str:
        """What stands for a comment or an element whose content is no wikitext, or is not shown."""
        name, content = match[1], match[3]
        before = match.string[match.start() - 1]
        if name is None:
            return LINE if before == "\n" else ""
        name = name.lower()
        if content and name in _VERBATIM:
            return self._verbatim(name, match[2], content)
        return GAP if before in " (（\n*#:" else ""

    def _verbatim(self, name: str, attributes: str, content: str) -> str:
        if name == "gallery":
            return self._gallery(_ELEMENTS.sub(self._element, content))
        if name == "poem":
            return in_lines(_ELEMENTS.sub(self._element, content))
        if name == "math":
            formula = self._literal(f"${' '.join(content.split())}$")
            return f"{BREAK}{formula}{BREAK}" if "block" in attributes else formula
        if name in _BLOCKS:
            inner = INLINE_TAG.sub("", content) if name == "pre" else content
            return "\n\n" + self._literal(unescaped(inner).strip("\n").rstrip()) + "\n\n"
        return self._literal(unescaped(content))

    def _gallery(self, content: str) -> str:
        """Captions, a line each, with the links in them, which are resolved later."""
        if self.dialect.config.captions == "drop":
            return GAP
        captions = []
        for line in content.split("\n"):
            caption = line.partition("|")[2].strip()
            options = _GALLERY_OPTIONS.match(caption)
            captions.append(caption[options.end() :] if options else caption)
        return "\n\n" + BREAK.join(caption for caption in captions if caption) + "\n\n"

    def _with_literals(self, text: str) -> str:
        return _LITERAL.sub(lambda literal: self.literals[int(literal[1])], text)

    def _literal(self, text: str) -> str:
        # What lies in it may have been taken for a literal of its own, or for something dropped, before it.
        self.literals.append(without_marks(self._with_literals(text)))
        return f"{LITERAL_START}{len(self.literals) - 1}{LITERAL_END}"

    def _render(self, sign: str, count: int, content: str) -> str:
        """What stands for a template, a parameter, a link or a conversion whose content is resolved."""
        if sign == "[":
            dialect = self.dialect
            return shown(content, dialect.files, dialect.categories, dialect.config.captions == "keep")
        if sign == "-":
            return choose_variant(content, self.dialect.config.variant)
        if count == 3:
            return content.partition("|")[2]
        text, name = expand(content, self.dialect.rules, self.title)
        if text is None:
            self.is_disambiguation = self.is_disambiguation or name in DISAMBIGUATIONS
            return GAP
        return text

    def _magic_word(self, match: re.Match[str]) -> str:
        word = match[1]
        if word != word.upper():
            return match[0]
        self.is_disambiguation = self.is_disambiguation or word == "DISAMBIG"
        return GAP


def _is_left_over(text: str) -> bool:
    """Whether there are double brackets; single ones are looked for first, which is a hundred times faster."""
    if not any(sign in text for sign in "[]{}"):
        return False
    return any(signs in text for signs in ("[[", "]]", "{{", "}}", "{|", "|}"))


def _half_link(match: re.Match[str]) -> str:
    content: str = match[1] or match[2] or ""
    return content.rpartition("|")[2]
