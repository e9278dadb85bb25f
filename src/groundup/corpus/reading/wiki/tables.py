"""Tables (`{| ... |}`, nested to any depth) -> nothing, or a line for each row.

Invariant: one pass over line starts; an unclosed table ends with its last line that looks like one.
"""

from __future__ import annotations

import re

from groundup.corpus.reading.wiki.marks import BREAK, GAP

_NOTHING = f"\n\n{GAP}"
_EDGE = re.compile(r"\n[ \t:*#]*+(\{\||\|\}(?!\}))")
_INNER_EDGE = re.compile(r"\n[ \t:*#]*+(?:\{\|[^\n]*+|\|\})")
_ROW = re.compile(r"\n[ \t]*+\|-+[^\n]*")
_CAPTION = re.compile(r"\n[ \t]*+\|\+[^\n]*+")
_CELL = re.compile(r"\n[ \t]*+(?:\|\+|[|!])|\|\||!!")
_ATTRIBUTES = re.compile(r"(?:\s*+[\w-]++\s*+=\s*+(?:\"[^\"\n|]*+\"|'[^'\n|]*+'|[^\s|\"']++))++\s*+\|(?!\|)")
_STRAY = re.compile(r"\n[ \t]*+\|[^\n]*")


def replace_tables(text: str, as_rows: bool) -> str:
    """`text` (which begins with a line feed) without its outermost tables, or with their rows as lines."""
    pieces: list[str] = []
    position = start = depth = 0
    for edge in _EDGE.finditer(text):
        if edge[1] == "{|":
            if not depth:
                start = edge.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                pieces += text[position:start], _rows(text[start : edge.start()]) if as_rows else _NOTHING
                position = edge.end()
    if depth:
        end = _end_of_unclosed(text, start)
        pieces += text[position:start], _rows(text[start:end]) if as_rows else _NOTHING
        return "".join((*pieces, _STRAY.sub("", text[end:])))
    return "".join(pieces) + text[position:]


def _end_of_unclosed(text: str, start: int) -> int:
    """The end of the lines from `start` on that begin with a sign of tables."""
    end = text.find("\n", start + 1)
    while end >= 0 and text[end + 1 : end + 200].lstrip(" \t:*#")[:1] in ("|", "!", "{"):
        end = text.find("\n", end + 1)
    return end if end >= 0 else len(text)


def _rows(table: str) -> str:
    """Rows as lines, cells between bars; attributes and empty cells are left out, a table within is flattened."""
    lines = []
    _, _, body = table[1:].partition("\n")  # the first line has the attributes of the whole
    for row in _ROW.split(_CAPTION.sub(r"\g<0>\n|-", _INNER_EDGE.sub("", f"\n{body}"))):
        cells = (" ".join(_without_attributes(cell).split()) for cell in _CELL.split(row))
        line = " | ".join(cell for cell in cells if cell.strip(GAP + " "))
        if line:
            lines.append(line)
    return "\n\n" + BREAK.join(lines) + "\n\n"


def _without_attributes(cell: str) -> str:
    attributes = _ATTRIBUTES.match(cell)
    return cell[attributes.end() :] if attributes else cell
