"""Markup of pages whose text extractors lose or run together -> markup that they understand.

    <ruby>漢<rt>かん</rt></ruby> -> 漢      10<sup>6</sup> -> 10⁶      <math alttext="x^2">...</math> -> $x^2$

Invariant: linear in the length of the page; what is not of these kinds stays as it is.
"""

from __future__ import annotations

import html
import re

from groundup.corpus.reading.wiki.inline import raised

_READING = re.compile(r"<(?:rt|rp|rtc)\b[^<>]*+>[^<]*+(?:</(?:rt|rp|rtc)\s*+>)?+", re.IGNORECASE)
_RUBY_TAG = re.compile(r"</?(?:ruby|rb|rt|rp|rtc)\b[^<>]*+>", re.IGNORECASE)
_MATH = re.compile(r"<math\b([^<>]*+)>((?:[^<]++|<(?!/?math\b))*+)</math\s*+>", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"""\balttext\s*+=\s*+(?:"([^"]++)"|'([^']++)')""", re.IGNORECASE)
_ANNOTATION = re.compile(r"<annotation\b(?=[^<>]*?tex)[^<>]*+>([^<]++)<", re.IGNORECASE)
_DISPLAY_STYLE = re.compile(r"^\{\\displaystyle\s*+(.*)\}$", re.DOTALL)
_LIST_TAG = re.compile(r"<(/?)ul\b[^<>]*+>", re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^<>]*+>(?:\s*+<p\b[^<>]*+>)?+", re.IGNORECASE)
_ITEM_END = re.compile(r"</li\s*+>", re.IGNORECASE)
_LINK = re.compile(r"<a\b[^<>]*+>((?:[^<]++|<(?!/?a\b))*+)", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>]*+>")
_LIST_DEPTH = 6
_LINKED_SHARE = 0.1
"""Share of a list's text in links above which it may be a menu. With 0.25 the precision on 181 news pages is lower."""


def as_plain_markup(markup: str) -> str:
    """Words without their readings, raised digits, formulas as TeX where the page has it."""
    if "<ruby" in markup or "<RUBY" in markup:
        markup = _RUBY_TAG.sub("", _READING.sub("", markup))
    if "<sup" in markup or "<SUP" in markup:
        markup = raised(markup)
    if "<math" in markup:
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
    """Lists of text as lines that begin with `- `, the inner ones first; those with more links stay as they are."""
    if "<ul" not in markup and "<UL" not in markup:
        return markup
    opened: list[str] = []
    pieces: list[list[str]] = [[]]
    done = deeper = 0
    for tag in _LIST_TAG.finditer(markup):
        pieces[-1].append(markup[done : tag.start()])
        done = tag.end()
        is_end = bool(tag[1])
        if deeper or (len(opened) == _LIST_DEPTH and not is_end) or (is_end and not opened):
            deeper = max(0, deeper + (-1 if is_end else 1))
            pieces[-1].append(tag[0])
        elif is_end:
            start, inner = opened.pop(), "".join(pieces.pop())
            pieces[-1].append(_as_lines(inner) if _is_text(inner) else f"{start}{inner}{tag[0]}")
        else:
            opened.append(tag[0])
            pieces.append([])
    for start in reversed(opened):  # nothing ends them
        inner = "".join(pieces.pop())
        pieces[-1].append(start + inner)
    return "".join(pieces[0]) + markup[done:]


def _is_text(items: str) -> bool:
    """Whether hardly anything of a list is links; one that holds a menu counts as one."""
    if "<ul" in items or "<UL" in items:
        return False
    linked = sum(_text_length(link[1]) for link in _LINK.finditer(items))
    return linked <= _LINKED_SHARE * _text_length(items)


def _as_lines(items: str) -> str:
    return f"<div>{_ITEM_END.sub('', _ITEM.sub('<br>- ', items))}</div>"


def _text_length(markup: str) -> int:
    return len("".join(_ANY_TAG.sub("", markup).split()))
