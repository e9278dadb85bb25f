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

_OPENING = {
    "(": ")",
    "[": "]",
    "（": "）",
    "［": "］",
    "「": "」",
    "『": "』",
    "〈": "〉",
    "《": "》",
    "【": "】",
    "“": "”",
}
_CLOSING = frozenset(_OPENING.values())
_SEPARATORS = " \t,;:/·|–—،؛，；：、・"
_COMMAS = frozenset(",;،؛，；、")
_NO_SPACE_BEFORE = frozenset(",.;:!?،؛؟，。；：、！？%") | _CLOSING
_SPACE_IN_FRENCH = frozenset(";:!?»")


def lay_out(text: str) -> str:
    """The final lines of `text`, in which each marker GAP stands for something dropped."""
    text = f"\n{text}\n".replace("\u00a0", " ").replace("\t", " ")
    if GAP in text:
        text = _close_gaps(text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
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
    pieces = _GAPS.sub(GAP, text).split(GAP)
    tail = pieces[0]
    for piece in pieces[1:]:
        left, right = tail.rstrip(" "), piece.lstrip(" ")
        had_space = len(left) < len(tail) or len(right) < len(piece)
        left, right = _without_separators(done, left, right)
        first = right[:1]
        if not left or left[-1] == "\n" or not first or first == "\n" or first in _NO_SPACE_BEFORE:
            french = first in _SPACE_IN_FRENCH and piece[:1] == " "
            joint = " " if (french and left) or (not first and had_space and left and left[-1] not in _OPENING) else ""
        else:
            joint = " " if had_space and left[-1] not in _OPENING else ""
        if right:
            done.append(left + joint)
            tail = right
        else:
            tail = left + joint
    done.append(tail)
    return "".join(done)


def _without_separators(done: list[str], left: str, right: str) -> tuple[str, str]:
    """What stays on both sides of a gap: no separator next to a parenthesis, no two in a row, no empty parentheses."""
    if left[-1:] in _OPENING and left:
        right = right.lstrip(_SEPARATORS)
        if right[:1] == _OPENING[left[-1]]:
            left, right = left[:-1].rstrip(" "), right[1:]
            if not left and done:
                left = done.pop().rstrip(" ")
            right = right if right[:1] in _NO_SPACE_BEFORE or not right else " " + right.lstrip(" ")
    elif right[:1] in _CLOSING and right:
        left = left.rstrip(_SEPARATORS)
        if left[-1:] in _OPENING and left and _OPENING[left[-1]] == right[0]:
            left, right = left[:-1].rstrip(" "), right[1:]
    elif left[-1:] in _COMMAS and left and right[:1] in _NO_SPACE_BEFORE and right:
        left = left[:-1].rstrip(" ")
    return left, right


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
