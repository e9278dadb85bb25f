"""Wikitext -> plain text that reads well.

    elements (comments, refs, nowiki, TeX, code)  -->  conversions, templates, links, from the inside to the outside
    -->  tables  -->  external links, magic words, quotes, tags, entities  -->  lines  -->  literals put back

Each step is one pass (templates and links: at most MAX_DEPTH) of patterns that cannot go back over what they read:
a repeated part is possessive and stops at the next bracket that could begin or end the same thing.

Invariant: time is linear in the length whatever the markup; nothing is dropped but what a page does not show, or shows
as a picture, a reference, a box or (unless asked for) a table.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from groundup.corpus.wiki.lines import lay_out
from groundup.corpus.wiki.marks import GAP, LINE, LITERAL_END, LITERAL_START, without_marks
from groundup.corpus.wiki.names import (
    CATEGORIES,
    DISAMBIGUATIONS,
    FILES,
    LANGUAGES,
    PICTURE_OPTIONS,
    THUMBNAILS,
)
from groundup.corpus.wiki.options import WikiConfig
from groundup.corpus.wiki.tables import replace_tables
from groundup.corpus.wiki.templates import Rules, expand
from groundup.corpus.wiki.variants import choose_variant

MAX_DEPTH = 40
"""Templates and links nested deeper lose their brackets only, as MediaWiki stops there too (its limit is 40)."""

_ELEMENTS = re.compile(
    r"<!--.*?(?:-->|\Z)|<(ref|references|nowiki|pre|math|chem|ce|syntaxhighlight|source|gallery|timeline|score|graph|mapframe"
    r"|maplink|imagemap|templatestyles|templatedata|hiero|indicator|inputbox|categorytree|includeonly|style|script|rp)\b"
    r"([^<>]*+)(?:(?<=/)>|>((?:[^<]++|<(?!/?\1\b))*+)</\1\s*+>)",
    re.IGNORECASE | re.DOTALL,
)
_BODY = r"((?:[^\[\]{}]++|\[(?!\[)|\](?!\])|\{(?!\{)|\}(?!\}))*+)"
_INNERMOST = re.compile(rf"\{{\{{(?!\{{){_BODY}\}}\}}|\[\[(?!\[){_BODY}\]\]|\{{\{{\{{{_BODY}\}}\}}\}}")
_PIPED_LINK = re.compile(r"\[\[[^\[\]{}|:\n]*+\|([^\[\]{}|\n]++)\]\]")
_PLAIN_LINK = re.compile(r"\[\[([^\[\]{}|:\n#]++)\]\]")
_EXTERNAL_LINK = re.compile(r"\[(?:https?:|ftps?:|mailto:|news:|irc:|tel:|//)[^\s\[\]]*+[ \t]*+([^\[\]\n]*+)\]")
_CONVERSION = re.compile(r"-\{(?![{|])([^{}]*+)\}-")
_UNCLOSED_BOX = re.compile(r"\n\{\{[^\n]*+(?:\n[ \t]*+\|[^\n]*+)++")
_BRACES = re.compile(r"\{\{|\}\}")
_LEFTOVER = re.compile(r"\[\[|\]\]|\{\{+|\}\}+|\{\||\|\}|\[(?=https?://)")
_MAGIC_WORD = re.compile(r"__([^\W\d_](?:[^\W\d]|_(?!_))*+)__")
_MANY_QUOTES = re.compile(r"'{4,}+")
_APOSTROPHE = re.compile(r"(?<=\w)'''(?=\w)")
_QUOTES = re.compile(r"'{2,}+")
_SUPERSCRIPT = re.compile(r"<sup\b[^<>]*+>([^<>]{0,30})</sup\s*>", re.IGNORECASE)
_HTML_TABLE = re.compile(r"<table\b[^<>]*+>(?:[^<]++|<(?!/?table\b))*+</table\s*+>", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"</?(?:br|p|div|blockquote|center|hr|ul|ol|dl|dt|dd|table|tr|caption|poem|h[1-6]|section|tbody|thead)\b[^<>]*+>",
    re.IGNORECASE,
)
_ITEM_TAG = re.compile(r"<li\b[^<>]*+>", re.IGNORECASE)
_INLINE_TAG = re.compile(
    r"</?(?:span|small|big|sub|sup|i|b|em|strong|u|s|strike|del|ins|tt|code|kbd|samp|var|abbr|cite|dfn|q|bdi|bdo|font|ruby|rb"
    r"|rtc?|rp|td|th|li|wbr|mark|data|time|a|img|noinclude|onlyinclude|includeonly|ref|references|nowiki|pre|math|chem"
    r"|ce|syntaxhighlight|source|gallery|timeline|score|graph|mapframe|maplink|imagemap|templatestyles|templatedata"
    r"|hiero|indicator|inputbox|categorytree|section|translate|languages|col|colgroup|style|script)\b[^<>]*+>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LITERAL = re.compile(f"{LITERAL_START}([0-9]+){LITERAL_END}")
_KEPT_AS_BLOCK = {"pre", "syntaxhighlight", "source"}
_DROPPED_LINKS = CATEGORIES | FILES


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
        text = "\n" + without_marks(wikitext).replace("\r\n", "\n").replace("\r", "\n") + "\n"
        if "<" in text:
            text = _ELEMENTS.sub(self._element, text)
            if LINE in text:
                text = text.replace(LINE + "\n", "").replace(LINE, "")
        text = self._brackets(text)
        if "{|" in text:
            text = replace_tables(text, self.dialect.config.tables == "rows")
        text = self._small_markup(text)
        text = lay_out(text)
        if self.literals:
            text = _LITERAL.sub(self._put_back, text).strip()
        return Article(text, self.is_disambiguation)

    def _brackets(self, text: str) -> str:
        """Conversions, templates and links, the innermost first."""
        if "[[" in text:
            text = "".join(_PLAIN_LINK.split("".join(_PIPED_LINK.split(text))))
        for _ in range(MAX_DEPTH):
            before = len(text)
            if "-{" in text:
                text = _CONVERSION.sub(self._conversion, text)
            if "{{" not in text and "[[" not in text:
                break
            text, count = _INNERMOST.subn(self._innermost, text)
            if not count and len(text) == before:
                break
        if "{{" in text:
            text = _UNCLOSED_BOX.sub("\n", _without_nested(text))
        return text

    def _small_markup(self, text: str) -> str:
        """What has no parts inside: external links, magic words, bold and italic, tags, entities."""
        if "//" in text or "[mailto:" in text:
            text = _EXTERNAL_LINK.sub(_external_link, text)
        text = _LEFTOVER.sub("", text)
        if "__" in text:
            text = _MAGIC_WORD.sub(self._magic_word, text)
        if "''" in text:
            text = _without_quotes(text)
        if "<" in text:
            text = _without_tags(text)
        if "&" in text:
            text = _ENTITY.sub(_entity, text)
        return text

    def _literal(self, text: str) -> str:
        self.literals.append(text)
        return f"{LITERAL_START}{len(self.literals) - 1}{LITERAL_END}"

    def _put_back(self, match: re.Match[str]) -> str:
        return self.literals[int(match[1])]

    def _element(self, match: re.Match[str]) -> str:
        """What stands for a comment or an element whose content is no wikitext, or is not shown."""
        name, content = match[1], match[3]
        start = match.start()
        if name is None:
            return LINE if match.string[start - 1] == "\n" else ""
        name = name.lower()
        if content and name in {"nowiki", "math", "chem", "ce", "gallery"} | _KEPT_AS_BLOCK:
            return self._shown(name, content)
        return GAP if match.string[start - 1] in " (\n*#:" else ""

    def _shown(self, name: str, content: str) -> str:
        if name == "gallery":
            return self._gallery(content)
        if name == "math":
            return self._literal(f"${' '.join(content.split())}$")
        if name in _KEPT_AS_BLOCK:
            inner = _INLINE_TAG.sub("", content) if name == "pre" else content
            return "\n\n" + self._literal(html.unescape(inner).strip("\n").rstrip()) + "\n\n"
        return self._literal(html.unescape(content))

    def _gallery(self, content: str) -> str:
        captions = [line.partition("|")[2].rpartition("|")[2].strip() for line in content.split("\n")]
        if self.dialect.config.captions == "drop":
            return GAP
        return "\n\n" + "\n".join(caption for caption in captions if caption) + "\n\n"

    def _conversion(self, match: re.Match[str]) -> str:
        return choose_variant(match[1], self.dialect.config.variant)

    def _innermost(self, match: re.Match[str]) -> str:
        """What stands for a template, a link or a parameter that holds no other."""
        kind = match.lastindex
        if kind == 1:
            text, name = expand(match[1], self.dialect.rules, self.title)
            if text is None:
                self.is_disambiguation = self.is_disambiguation or name in DISAMBIGUATIONS
                return GAP
            return text
        if kind == 2:
            return self._link(match[2])
        default: str = match[3].partition("|")[2]
        return default

    def _link(self, content: str) -> str:
        target, pipe, rest = content.partition("|")
        target = target.strip()
        if target.startswith(":"):
            return rest if rest else target.lstrip(":")
        prefix, colon, name = target.partition(":")
        if colon:
            prefix = prefix.strip().replace("_", " ").lower()
            if prefix in self.dialect.files:
                return self._caption(rest)
            if prefix in self.dialect.categories or (prefix in LANGUAGES and name):
                return GAP
        if not pipe:
            return target
        return rest or _pipe_trick(name if colon else target)

    def _caption(self, options: str) -> str:
        """The caption of a picture that shows one: the last part that is no option."""
        parts = [part.strip() for part in options.split("|")]
        caption = next((part for part in reversed(parts) if not _is_option(part)), "")
        framed = not THUMBNAILS.isdisjoint(part.lower().partition("=")[0] for part in parts)
        if self.dialect.config.captions == "drop" or not caption or not (framed or len(caption) > 40):
            return GAP
        return f"\n\n{caption}\n\n"

    def _magic_word(self, match: re.Match[str]) -> str:
        word = match[1]
        if word != word.upper():
            return match[0]
        self.is_disambiguation = self.is_disambiguation or word == "DISAMBIG"
        return GAP


def _without_nested(text: str) -> str:
    """What stands between braces that match is dropped: templates nested too deeply, or with odd ones inside."""
    regions: list[tuple[int, int]] = []
    opened: list[int] = []
    for brace in _BRACES.finditer(text):
        if brace[0] == "{{":
            opened.append(brace.start())
        elif opened:
            start = opened.pop()
            while regions and regions[-1][0] > start:
                regions.pop()
            regions.append((start, brace.end()))
    pieces: list[str] = []
    position = 0
    for start, end in regions:
        pieces += text[position:start], GAP
        position = end
    return "".join(pieces) + text[position:]


def _is_option(part: str) -> bool:
    """Whether a part of a picture's link is size, place or attribute; a lone word in small letters is taken for one."""
    if not part or part.lower() in PICTURE_OPTIONS:
        return True
    name, equals, _ = part.partition("=")
    if equals and name.strip().replace("-", "").isalpha():
        return True
    return part.removesuffix("px").strip(" x0123456789") == "" or (part.isascii() and part.isalpha() and part.islower())


def _pipe_trick(name: str) -> str:
    return name.partition(" (")[0].partition("（")[0].strip()


def _external_link(match: re.Match[str]) -> str:
    return match[1].strip() or GAP


def _entity(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _without_quotes(text: str) -> str:
    """Bold and italic marks go; apostrophes beside them stay, as in `l'''Iliade''` and `''''tis'''`."""
    if "''''" in text:
        text = _MANY_QUOTES.sub(_many_quotes, text)
    pieces: list[str] = []
    done = 0
    while match := _APOSTROPHE.search(text, done):
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        end = end if end >= 0 else len(text)
        pieces += text[done:start], _with_apostrophe(text[start:end])
        done = end
    text = "".join(pieces) + text[done:] if pieces else text
    return text.replace("'''", "").replace("''", "")


def _many_quotes(match: re.Match[str]) -> str:
    return "" if len(match[0]) == 5 else "'" * max(1, len(match[0]) - 5)


def _with_apostrophe(line: str) -> str:
    """MediaWiki's rule: with odd numbers of bold and italic marks the first of `'''` within a word is `'` and `''`."""
    lengths = [len(marks) for marks in _QUOTES.findall(line)]
    if lengths.count(3) % 2 and lengths.count(2) % 2:
        return _APOSTROPHE.sub("'", line, count=1)
    return line


def _without_tags(text: str) -> str:
    if "<sup" in text:
        text = _SUPERSCRIPT.sub(_superscript, text)
    for _ in range(MAX_DEPTH if "<table" in text else 0):
        text, count = _HTML_TABLE.subn(GAP, text)
        if not count:
            break
    if "<rt" in text:
        text = text.replace("<rt>", "(").replace("</rt>", ")")
    text = _ITEM_TAG.sub("\n* ", text)
    return _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text))


def _superscript(match: re.Match[str]) -> str:
    """Digits and signs become raised ones, so that 10<sup>6</sup> is not 106; words stay as they are."""
    inner: str = match[1].strip()
    raised = inner.translate(_RAISED)
    return raised if not any(sign.isalnum() and sign in inner for sign in raised) else inner
