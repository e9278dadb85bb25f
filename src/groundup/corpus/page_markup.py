"""Markup of pages whose text extractors lose or run together -> markup that they understand.

    <ruby>漢<rt>かん</rt></ruby> -> 漢      10<sup>6</sup> -> 10⁶      <math alttext="x^2">...</math> -> $x^2$

Invariant: linear in the length of the page; what is not of these kinds stays as it is.
"""

from __future__ import annotations

import html
import re

from groundup.corpus.wiki.inline import raised

_READING = re.compile(r"<(?:rt|rp|rtc)\b[^<>]*+>[^<]*+(?:</(?:rt|rp|rtc)\s*+>)?+", re.IGNORECASE)
_RUBY_TAG = re.compile(r"</?(?:ruby|rb|rt|rp|rtc)\b[^<>]*+>", re.IGNORECASE)
_MATH = re.compile(r"<math\b([^<>]*+)>((?:[^<]++|<(?!/?math\b))*+)</math\s*+>", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"""\balttext\s*+=\s*+(?:"([^"]++)"|'([^']++)')""", re.IGNORECASE)
_ANNOTATION = re.compile(r"<annotation\b[^<>]*+tex[^<>]*+>([^<]++)<", re.IGNORECASE)
_DISPLAY_STYLE = re.compile(r"^\{\\displaystyle\s*+(.*)\}$", re.DOTALL)
_LIST = re.compile(r"<ul\b[^<>]*+>((?:[^<]++|<(?!/?ul\b))*+)</ul\s*+>", re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^<>]*+>(?:\s*+<p\b[^<>]*+>)?+", re.IGNORECASE)
_ITEM_END = re.compile(r"</li\s*+>", re.IGNORECASE)
_LINK = re.compile(r"<a\b[^<>]*+>((?:[^<]++|<(?!/?a\b))*+)", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>]*+>")
_LIST_DEPTH = 6


def as_plain_markup(markup: str) -> str:
    """Words without their readings, raised digits, formulas as TeX where the page has it."""
    folded = markup.lower() if "<" in markup else ""
    if "<ruby" in folded:
        markup = _RUBY_TAG.sub("", _READING.sub("", markup))
    if "<sup" in folded:
        markup = raised(markup)
    if "<math" in folded:
        markup = _MATH.sub(_formula, markup)
    return markup


def _formula(match: re.Match[str]) -> str:
    """TeX between `$`, else the signs one after another."""
    given = _ALTERNATIVE.search(match[1]) or _ANNOTATION.search(match[2])
    if given is None:
        return "".join(_ANY_TAG.sub("", match[2]).split())
    tex = " ".join(html.unescape(next(filter(None, given.groups()))).split())
    inner = _DISPLAY_STYLE.match(tex)  # Wikipedia's pages
    return f"${html.escape(inner[1].strip() if inner else tex, quote=False)}$"


def lists_as_lines(markup: str) -> str:
    """Lists that are no menus as lines that begin with `- `, the inner ones first."""
    for _ in range(_LIST_DEPTH if "<ul" in markup.lower() else 0):
        markup, count = _LIST.subn(_as_lines, markup)
        if not count:
            break
    return markup


def _as_lines(match: re.Match[str]) -> str:
    """An innermost list as lines; nothing for a menu, whose text is mostly links."""
    items: str = match[1]
    linked = sum(_text_length(link[1]) for link in _LINK.finditer(items))
    if linked > _text_length(items) / 2:
        return ""
    return f"<div>{_ITEM_END.sub('', _ITEM.sub('<br>- ', items))}</div>"


def _text_length(markup: str) -> int:
    return len("".join(_ANY_TAG.sub("", markup).split()))
