"""Signs that stand in half-converted text for what must not be touched or was taken away.

They are noncharacters of Unicode, which no text may hold for interchange (Unicode 16, section 23.7), so `without_marks`
takes them from the input and nothing can be forged.
"""

from __future__ import annotations

import re

GAP = "\ufdd0"
"""Something was dropped here; `lines.close_gaps` mends what it leaves: spaces, separators, empty parentheses."""
LITERAL_START, LITERAL_END = "\ufdd1", "\ufdd2"
"""Around the number of a text that is put back at the very end: preformatted text, TeX, nowiki."""
LINE = "\ufdd3"
"""The line that begins here disappears, with its end (a comment on a line of its own)."""
CAPTION_START, CAPTION_END = "\ufdd4", "\ufdd7"
"""Around the caption of a picture, which comes behind the paragraph that it stands in."""
BREAK = "\ufdd8"
"""Where a line ends whatever stands around it; other line ends within a paragraph are blanks."""

BAR, EQUALS = "\ufdd5", "\ufdd6"
"""`|` and `=` in the text of a template or link inside another one, where they part no arguments."""

_BREAK_AND_END = re.compile(r"<br\b[^<>]*+>[ \t]*+\n", re.IGNORECASE)
_MARKS = (GAP, LITERAL_START, LITERAL_END, LINE, CAPTION_START, CAPTION_END, BREAK, BAR, EQUALS)
_TABLE = dict.fromkeys(map(ord, _MARKS))


def without_marks(text: str) -> str:
    """`text` without the signs, which is nearly always `text` itself."""
    return text.translate(_TABLE) if any(mark in text for mark in _MARKS) else text


def in_lines(text: str) -> str:
    """`text` as a paragraph whose lines stay lines: verse."""
    return "\n\n" + _BREAK_AND_END.sub("\n", text.strip()).replace("\n", BREAK) + "\n\n"
