"""Templates `{{...}}`, parameters `{{{...}}}`, links `[[...]]` and conversions `-{...}-` -> their texts, inside first.

    a {{b [[c]] d}} e      one pass over runs of brackets, with a stack of what is open

Runs are matched as MediaWiki's preprocessor does: the longest of two or three that both sides have. Unlike there, a
bracket that belongs to something further down closes what is open above it, so that one that is forgotten does not
cost a page.

Invariant: each piece of text is joined at most MAX_DEPTH times, so time is linear whatever the nesting.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from groundup.corpus.reading.wiki.marks import BAR, EQUALS

MAX_DEPTH = 40
"""What is open below it is not opened (MediaWiki's own limit for templates is 40)."""

_BRACKETS = re.compile(r"(\{\{++|\}\}++|\[\[++|\]\]++)")
_WITH_CONVERSIONS = re.compile(r"(-\{(?!\{)|\{\{++|\}\}++(?!-)|\}\}\}++|\}\}(?=-)|\}-|\[\[++|\]\]++)")
_LONG = 200
_OPENED_BY = {"}": "{", "]": "["}


class _Open:
    """Brackets that nothing closed yet: their sign (`{`, `[`, `-`), how many, and the texts behind them."""

    __slots__ = ("count", "parts", "sign")

    def __init__(self, sign: str, count: int, text: str) -> None:
        self.sign, self.count, self.parts = sign, count, [text]


def resolve(text: str, render: Callable[[str, int, str], str]) -> str:
    """`text` with `render(sign, count, content)` in place of each pair of brackets, the inner before the outer.

    Signs: `{` (count 2: template, 3: parameter), `[` (2) and `-` (1: conversion). Brackets without a partner stay.
    """
    pieces = (_WITH_CONVERSIONS if "-{" in text else _BRACKETS).split(text)
    if len(pieces) == 1:
        return text
    stack = [_Open("", 0, pieces[0])]
    how_many = {"{": 0, "[": 0, "-": 0}
    not_opened = {"{": 0, "[": 0, "-": 0}
    for i in range(1, len(pieces), 2):
        run, following = pieces[i], pieces[i + 1]
        sign = run[0]
        if sign in "{[-":
            if len(stack) > MAX_DEPTH:
                not_opened[sign] += len(run)
                stack[-1].parts.append(following)
                continue
            how_many[sign] += 1
            stack.append(_Open(sign, 1 if sign == "-" else len(run), following))
        else:
            opener, count = ("-", 1) if run == "}-" else (_OPENED_BY[sign], len(run))
            closed = min(count, not_opened[opener])
            not_opened[opener] -= closed
            _close(stack, how_many, opener, count - closed, render)
            stack[-1].parts.append(following)
    resolved = "".join([part for open_ in stack for part in (open_.sign * open_.count, *open_.parts)])
    return resolved.replace(BAR, "|").replace(EQUALS, "=")


def _close(
    stack: list[_Open], how_many: dict[str, int], sign: str, count: int, render: Callable[[str, int, str], str]
) -> None:
    """Close as much of what `sign` opened as `count` closing brackets do."""
    least, most = (1, 1) if sign == "-" else (2, 3 if sign == "{" else 2)
    while count >= least and how_many[sign]:
        while stack[-1].sign != sign:
            _give_up(stack, how_many)
        top = stack[-1]
        content = "".join(top.parts)
        if len(content) > _LONG and "\n==" in content:  # no template or link holds a heading: it was never closed
            top.parts = [content]
            _give_up(stack, how_many)
            continue
        matched = min(top.count, count, most)
        result = render(sign, matched, content)
        if len(stack) > 2:
            result = result.replace("|", BAR).replace("=", EQUALS)
        count -= matched
        top.count -= matched
        if top.count >= least:
            top.parts = [result]
            continue
        stack.pop()
        how_many[sign] -= 1
        stack[-1].parts += top.sign * top.count, result
    if count == 1 and sign == "{":
        stack[-1].parts.append("}")


def _give_up(stack: list[_Open], how_many: dict[str, int]) -> None:
    """The innermost open brackets are text."""
    unclosed = stack.pop()
    how_many[unclosed.sign] -= 1
    stack[-1].parts += unclosed.sign * unclosed.count, *unclosed.parts
