"""Markup within a line that holds no other: bold and italic, HTML tags, entities, external links -> text."""

from __future__ import annotations

import html
import re
from html.entities import html5

from groundup.corpus.reading.wiki.marks import BREAK, GAP

_EXTERNAL_LINK = re.compile(
    r"\[(?:https?:|ftps?:|mailto:|news:|irc:|tel:|//)[^\s\[\]]*+[ \t]*+([^\[\]\n]*+)\]", re.IGNORECASE
)
_OPENED_LINK = re.compile(r"\[(?=https?://)")
_MARKS = re.compile(r"'{2,}+")
_SUPERSCRIPT = re.compile(r"<sup\b[^<>]*+>([^<>]{0,30})</sup\s*+>", re.IGNORECASE)
_HTML_TABLE = re.compile(r"<table\b[^<>]*+>(?:[^<]++|<(?!/?table\b))*+</table\s*+>", re.IGNORECASE)
_MAX_TABLE_DEPTH = 10
_BLOCK_TAG = re.compile(
    r"<br\b[^<>]*+>\n?|</?(?:p|div|blockquote|center|hr|ul|ol|dl|dt|dd|table|tr|caption|poem|h[1-6]|section|tbody|thead)\b[^<>]*+>",
    re.IGNORECASE,
)
_ITEM_TAG = re.compile(r"<li\b[^<>]*+>", re.IGNORECASE)
INLINE_TAG = re.compile(
    r"</?(?:span|small|big|sub|sup|i|b|em|strong|u|s|strike|del|ins|tt|code|kbd|samp|var|abbr|cite|dfn|q|bdi|bdo|font|ruby|rb"
    r"|rtc?|rp|td|th|li|wbr|mark|data|time|a|img|noinclude|onlyinclude|includeonly|ref|references|nowiki|pre|math|chem"
    r"|ce|syntaxhighlight|source|gallery|timeline|score|graph|mapframe|maplink|imagemap|templatestyles|templatedata"
    r"|hiero|indicator|inputbox|categorytree|translate|languages|col|colgroup|style|script)\b[^<>]*+>",
    re.IGNORECASE,
)
_BLANK_ENTITY = re.compile(r"&(?:nbsp|ensp|emsp|thinsp|#160|#32|#x20|#xA0|#xa0);")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_CAN_BE_RAISED = frozenset("0123456789+-−=()ni")


def without_inline_markup(text: str) -> str:
    """`text` as a page shows it, line ends and entities aside (these come last: a sign they stand for is no markup)."""
    if "[" in text:
        text = _OPENED_LINK.sub("", _EXTERNAL_LINK.sub(_label, text))
    if "'" in text:
        text = _without_quotes(text)
    if "<" in text:
        text = _without_tags(text)
    if "&" in text:
        text = _BLANK_ENTITY.sub(" ", text)
    return text


def unescaped(text: str) -> str:
    """`text` with the signs that entities stand for; what is no entity stays."""
    return _ENTITY.sub(_sign, text)


def _sign(entity: re.Match[str]) -> str:
    name: str = entity[0]
    return html.unescape(name) if name[1] == "#" else html5.get(name[1:], name)


def _label(link: re.Match[str]) -> str:
    return link[1].strip() or GAP


def _without_quotes(text: str) -> str:
    """Bold and italic marks go; apostrophes beside them stay, as in `l'''Iliade''` and `''''tis'''`."""
    pieces: list[str] = []
    done = 0
    while (bold := text.find("'''", done)) >= 0:
        start, end = text.rfind("\n", 0, bold) + 1, text.find("\n", bold)
        end = end if end >= 0 else len(text)
        pieces += text[done:start], _without_marks(text[start:end])
        done = end
    text = "".join(pieces) + text[done:] if pieces else text
    return text.replace("''", "")


def _without_marks(line: str) -> str:
    """A line that has `'''`, by MediaWiki's rule: of four or more than five quotes the first are apostrophes; with odd
    numbers of bold and italic marks one `'''` is an apostrophe and `''`: best the first behind a single letter, else
    behind a word, else behind a blank.
    """
    lengths = [len(marks) for marks in _MARKS.findall(line)]
    kinds = [3 if length == 4 else min(length, 5) for length in lengths]
    apostrophes = [length - kind for length, kind in zip(lengths, kinds)]
    fives = kinds.count(5)
    if (kinds.count(3) + fives) % 2 and (kinds.count(2) + fives) % 2 and 3 in kinds:
        texts = _MARKS.split(line)
        bold = [i for i, kind in enumerate(kinds) if kind == 3]
        apostrophes[min(bold, key=lambda i: _rank(texts[i]))] += 1
    remaining = iter(apostrophes)
    return _MARKS.sub(lambda marks: "'" * next(remaining), line)


def _rank(before: str) -> int:
    if before[-1:] in ("", " "):
        return 2
    return 0 if before[-2:-1] in ("", " ") else 1


def _without_tags(text: str) -> str:
    if "<sup" in text:
        text = raised(text)
    for _ in range(_MAX_TABLE_DEPTH if "<table" in text else 0):
        text, count = _HTML_TABLE.subn(GAP, text)
        if not count:
            break
    if "<rt" in text:
        text = text.replace("<rt>", "(").replace("</rt>", ")")
    if "<li" in text:
        text = _ITEM_TAG.sub("\n* ", text)
    return INLINE_TAG.sub("", _BLOCK_TAG.sub(BREAK, text))


def raised(markup: str) -> str:
    """Digits and signs in `<sup>` become raised ones, so that 10<sup>6</sup> is not 106; words stay as they are."""
    return _SUPERSCRIPT.sub(_superscript, markup)


def _superscript(element: re.Match[str]) -> str:
    inner: str = element[1].strip()
    return inner.translate(_RAISED) if _CAN_BE_RAISED.issuperset(inner) else inner
