"""Text without brackets -> the lines as a page shows them: headings, lists, mended gaps, single blanks.

Invariant: linear in the length of the text; a second pass changes nothing.
"""

from __future__ import annotations

import re

from groundup.corpus.wiki.marks import CAPTION, GAP

_LIST = re.compile(r"(?:\n[*#:;][^\n]*+)++")
_HEADING = re.compile(r"\n(=[^\n]*=)[ \t]*+(?=\n)")
_RULE = re.compile(r"\n-{4,}+")
_GAPS = re.compile(f"{GAP}(?:[ \t]*+{GAP})++")
_SPACES = re.compile(r"  ++")
_BLANK_LINES = re.compile(r"\n\n\n++")
_CAPTIONS = re.compile(rf"((?:\n++{CAPTION}[^\n]*+)++)\n++(?=[^\n=*#:;|])([^\n]++)")
_LIST_DEPTH = 6

_OPENING = dict(zip("([（［「『〈《【“«", ")]）］」』〉》】”»"))
_CLOSING = frozenset(_OPENING.values())
_SEPARATORS = " \t,;:/·|–—،؛，；：、・"
_COMMAS = frozenset(",;،؛，；、")
_NO_SPACE_BEFORE = frozenset(",.;:!?،؛؟，。；：、！？%") | _CLOSING
_SPACE_IN_FRENCH = frozenset(";:!?")


def lay_out(text: str) -> str:
    """The final lines of `text`, in which each marker GAP stands for something dropped."""
    text = f"\n{text}\n".replace("\u00a0", " ").replace("\t", " ")
    if GAP in text:
        text = _close_gaps(text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    text = _BLANK_LINES.sub("\n\n", text)
    if CAPTION in text:
        text = _CAPTIONS.sub("\\n\\n\\2\\1\\n", text).replace(CAPTION, "")
    text = _LIST.sub(_list, text)
    if "\n----" in text:
        text = _RULE.sub("\n", text)
    if "\n=" in text:
        text = _with_headings(text)
    return _BLANK_LINES.sub("\n\n", text).strip()


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


def _list(match: re.Match[str]) -> str:
    """A list: `- ` or numbers, two blanks for each level; indented lines stand alone; empty items disappear."""
    lines: list[str] = []
    counters: dict[int, int] = {}
    for line in match[0][1:].split("\n"):
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
    return "\n" + "\n".join(lines)


def _with_headings(text: str) -> str:
    """Headings as paragraphs of their own; those with nothing below them disappear."""
    pieces = _HEADING.split(text)
    kept: list[str] = []
    next_level = 0
    for i in range(len(pieces) - 1, 0, -2):
        body, line = pieces[i], pieces[i - 1]
        level, title = _level_and_title(line)
        if title and (body.strip() or next_level > level):
            kept.append(f"\n\n{title}\n\n{body}")
            next_level = level
        else:
            kept.append("\n" + body)
    kept.append(pieces[0])
    return "".join(reversed(kept))


def _level_and_title(line: str) -> tuple[int, str]:
    """Level (1 to 6) and title of a line that begins and ends with `=`."""
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
    return level, line.strip("=").strip() and line[level:-level].strip()
