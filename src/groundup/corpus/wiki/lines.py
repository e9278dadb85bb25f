"""Text without brackets -> the lines as a page shows them: headings, lists, mended gaps, single blanks.

Invariant: linear in the length of the text; a second pass changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from groundup.corpus.wiki.marks import CAPTION, GAP

_LIST_SIGNS = frozenset("*#:;")
_GAPS = re.compile(f"{GAP}(?:[ \t]*+{GAP})++")
_SPACES = re.compile(r"  ++")
_BLANK_LINES = re.compile(r"\n\n\n++")
_LIST_DEPTH = 6

_OPENING = dict(zip("([（［「『〈《【“«", ")]）］」』〉》】”»"))
_CLOSING = frozenset(_OPENING.values())
_SEPARATORS = " \t,;:/·|–—،؛，；：、・"
_COMMAS = frozenset(",;،؛，；、")
_NO_SPACE_BEFORE = frozenset(",.;:!?،؛؟，。；：、！？%") | _CLOSING
_SPACE_IN_FRENCH = frozenset(";:!?")


@dataclass(slots=True)
class _Section:
    """A heading and the lines below it; level 0: what stands before the first heading."""

    level: int
    title: str
    lines: list[str]


def lay_out(text: str) -> str:
    """The final lines of `text`, in which each marker GAP stands for something dropped."""
    text = text.replace("\u00a0", " ").replace("\t", " ")
    if GAP in text:
        text = _close_gaps(text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    return _BLANK_LINES.sub("\n\n", _joined(_sections(text.split("\n")))).strip()


def _sections(lines: Iterable[str]) -> list[_Section]:
    """Lines parted at the headings, with the lists rendered and captions behind the paragraph that they stand before."""
    body: list[str] = []
    sections = [_Section(0, "", body)]
    items: list[str] = []
    captions: list[str] = []
    for line in lines:
        line = line.strip(" ")
        first = line[:1]
        if first in _LIST_SIGNS:
            items.append(line)
            continue
        if items:
            body += (*captions, *_list(items))
            items, captions = [], []
        if first == CAPTION:
            captions += line[1:], ""
        elif first == "=" and line[-1] == "=" and len(line) > 1:
            body += captions
            captions, body = [], []
            sections.append(_Section(*_level_and_title(line), body))
        elif captions and line:
            body += line, "", *captions
            captions = []
        elif not captions:
            body.append(line.lstrip("-") if line.startswith("----") else line)
    body += (*captions, *_list(items))
    return sections


def _joined(sections: Sequence[_Section]) -> str:
    """Headings as paragraphs of their own; those with nothing below them disappear."""
    kept: list[str] = []
    next_level = 0
    for section in reversed(sections):
        text = "\n".join(section.lines)
        if section.title and (next_level > section.level or text.strip()):
            kept.append(f"\n\n{section.title}\n\n{text}")
            next_level = section.level
        else:
            kept.append("\n" + text)
    return "".join(reversed(kept))


def _close_gaps(text: str) -> str:
    """Take out the gaps with the separators and parentheses that had a meaning only with what stood there."""
    done: list[str] = []
    first, *others = _GAPS.sub(GAP, text).split(GAP)
    left = first
    for piece in others:
        left, right, is_apart = _mended(done, left, piece)
        if not right:
            left += " " if is_apart else ""
            continue
        done.append(left)
        if is_apart:
            done.append(" ")
        left = right
    done.append(left)
    return "".join(done)


def _mended(done: list[str], left: str, right: str) -> tuple[str, str, bool]:
    """(left, right, whether a blank belongs between): the two sides of a gap, when `done` stands before them.

    No separator next to a parenthesis, no two in a row, no empty parentheses, no blank before a comma.
    """
    start, end = left.rstrip(" "), right.lstrip(" ")
    is_apart = len(start) < len(left) or len(end) < len(right)
    closing = _OPENING.get(start[-1:], "")
    if closing:
        end = end.lstrip(_SEPARATORS)
    elif end[:1] in _CLOSING:
        start = start.rstrip(_SEPARATORS)
        closing = _OPENING.get(start[-1:], "")
    elif start[-1:] in _COMMAS and (end[:1] in _NO_SPACE_BEFORE or end[:1] == "\n"):
        start = start[:-1].rstrip(" ")
    if closing and end[:1] != closing:
        return start, end, False
    was_empty = bool(closing)
    while closing and end[:1] == closing:
        outside, behind = start[:-1] or (done.pop() if done else ""), end[1:]
        start, end = outside.rstrip(" "), behind.lstrip(" ")
        is_apart = len(start) < len(outside) or len(end) < len(behind)
        closing = _OPENING.get(start[-1:], "")
    before, after = start[-1:], end[:1]
    if before in ("", "\n") or after == "\n" or after in _CLOSING:
        return start, end, False
    if after in _SPACE_IN_FRENCH and right[:1] == " " and not was_empty:
        return start, end, True
    return start, end, is_apart and after not in _NO_SPACE_BEFORE


def _list(items: Sequence[str]) -> list[str]:
    """The lines of a list: `- ` or numbers, two blanks for each level; indented lines stand alone; empty ones go."""
    lines: list[str] = []
    counters: dict[int, int] = {}
    for line in items:
        if line[1:2] == " " and line[0] == "*" and not counters:  # by far the most frequent
            lines.append("- " + line[2:])
            continue
        body = line.lstrip("*#:;")
        kinds = line[: len(line) - len(body)]
        body = body.strip()
        if not body:
            continue
        levels = [kind for kind in kinds[: 2 * _LIST_DEPTH] if kind in "*#"][:_LIST_DEPTH]
        indent = "  " * (len(levels) - 1)
        for deeper in [level for level in counters if level > len(levels)]:
            del counters[deeper]
        if kinds[-1] == "#":
            counters[len(levels)] = counters.get(len(levels), 0) + 1
            lines.append(f"{indent}{counters[len(levels)]}. {body}")
        elif kinds[-1] == "*":
            counters.pop(len(levels), None)
            lines.append(f"{indent}- {body}")
        elif kinds[-1] == ";":
            term, colon, meaning = body.partition(" : ")
            lines.append(f"{term.strip()}: {meaning.strip()}" if colon else body)
        else:
            lines.append(("  " * len(levels) if levels else "") + body)
    return lines


def _level_and_title(line: str) -> tuple[int, str]:
    """Level (1 to 6) and title of a line that begins and ends with `=`."""
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
    return level, line.strip("=").strip() and line[level:-level].strip()
