"""Text without brackets -> the lines as a page shows them: headings, lists, mended gaps, single blanks.

Invariant: linear in the length of the text; a second pass changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from groundup.corpus.reading.wiki.marks import BREAK, CAPTION_END, CAPTION_START, GAP

_CAPTION = re.compile(f"{CAPTION_START}([^{CAPTION_START}{CAPTION_END}]*+){CAPTION_END}")
_CAPTION_OR_MARK = re.compile(f"{_CAPTION.pattern}|[{CAPTION_START}{CAPTION_END}]")
_EDGES = f" {BREAK}"
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
    """A heading and the text below it, in pieces; level 0: what stands before the first heading."""

    level: int
    title: str
    pieces: list[str]


def lay_out(text: str) -> str:
    """The final lines of `text`, in which each marker GAP stands for something dropped."""
    text = text.replace("\u00a0", " ").replace("\t", " ")
    if CAPTION_START in text or CAPTION_END in text:
        text = _CAPTION_OR_MARK.sub(_in_one_line, text)
    if BREAK in text:
        text = text.replace(f"\n{BREAK}", BREAK).replace(f"{BREAK}\n", BREAK).replace(BREAK, f"\n{BREAK}")
    if GAP in text:
        text = _close_gaps(text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    return _BLANK_LINES.sub("\n\n", _joined(_sections(text.split("\n")))).strip()


def _sections(lines: Iterable[str]) -> list[_Section]:
    """Lines parted at the headings; lists are rendered, the lines of a paragraph joined, captions put behind it."""
    sections = [_Section(0, "", [])]
    pieces = sections[0].pieces
    items: list[str] = []
    captions: list[str] = []
    last = ""  # the last character of a paragraph that may go on
    for raw in lines:
        if CAPTION_START in raw:
            raw = _without_captions(raw, captions)
            if not raw.strip():
                continue
        line = raw.strip(_EDGES)
        if line.startswith("----"):
            line = line.lstrip("- ")
        first = line[:1]
        if first in _LIST_SIGNS:
            items.append(line)
            last = ""
            continue
        if items:
            pieces += _list(items)
            items = []
        if not line:
            if last and captions:
                pieces += _paragraphs(captions)
            pieces.append("\n")
            last = ""
        elif first == "=" and line[-1] == "=" and len(line) > 1:
            pieces += _paragraphs(captions)
            sections.append(_Section(*_level_and_title(line), []))
            pieces, last = sections[-1].pieces, ""
        elif last and raw[0] not in _EDGES:
            pieces += "" if _are_wide(last, first) else " ", line
            last = line[-1]
        else:
            pieces += "\n", line
            last = "" if raw[0] == " " else line[-1]
    pieces += (*_list(items), *_paragraphs(captions))
    return sections


def _in_one_line(caption: re.Match[str]) -> str:
    """A caption without line ends; nothing for a mark whose partner is gone with a table."""
    whole: str = caption[0]
    return whole.replace(BREAK, " ").replace("\n", " ") if caption[1] is not None else ""


def _without_captions(line: str, captions: list[str]) -> str:
    """The line, with the captions that stand in it moved to `captions`."""
    captions += _CAPTION.findall(line)
    return _SPACES.sub(" ", _CAPTION.sub("", line))


def _paragraphs(captions: list[str]) -> list[str]:
    """Captions as paragraphs; none are left."""
    pieces = [piece for caption in captions for piece in ("\n\n", caption.strip())]
    captions.clear()
    return [*pieces, "\n\n"] if pieces else []


def _are_wide(last: str, first: str) -> bool:
    """Whether two characters are of a script without blanks between words (Chinese, Japanese)."""
    return "\u2e80" <= last <= "\uffef" and "\u2e80" <= first <= "\uffef" and not "\uac00" <= last <= "\ud7a3"


def _joined(sections: Sequence[_Section]) -> str:
    """Headings as paragraphs of their own; those with nothing below them disappear."""
    kept: list[str] = []
    next_level = 0
    for section in reversed(sections):
        text = "".join(section.pieces)
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
    if before in ("", "\n", BREAK) or after == "\n" or after in _CLOSING:
        return start, end, False
    if after in _SPACE_IN_FRENCH and right[:1] == " " and not was_empty:
        return start, end, True
    return start, end, is_apart and after not in _NO_SPACE_BEFORE


def _list(items: Sequence[str]) -> list[str]:
    """The lines of a list: `- ` or numbers, two blanks a level; indented lines stand alone; empty ones go."""
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
    return [piece for line in lines for piece in ("\n", line)]


def _level_and_title(line: str) -> tuple[int, str]:
    """Level (1 to 6) and title of a line that begins and ends with `=`."""
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
    return level, line.strip("=").strip() and line[level:-level].strip()
