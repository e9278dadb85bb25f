"""How text is cut into words before a vocabulary is looked at, and where a long text can be cut without changing that.

    text --split_pieces--> pieces of bounded length --expressions, one after the other--> words (the vocabulary's units)

Invariant: `"".join` of pieces is the text, and so is that of the words of a named pattern: an expression moves borders,
it never takes a character away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PIECE_CHARACTERS = 16_384
LONGEST_PIECE_CHARACTERS = 65_536
LONGEST_FOREIGN_PIECE_CHARACTERS = 8192
"""For expressions that are not among `PATTERNS`, whose time may grow with the square of the length."""


@dataclass(frozen=True)
class Pattern:
    """Expressions whose matches are words; what lies between matches is a word as well."""

    expressions: tuple[str, ...]
    safe_cut: re.Pattern[str]
    """Places where the expressions split whatever lies around, so that cutting there does not change the words."""
    covers: bool = True
    """Whether its only expression matches every character of a text, so that nothing lies between matches."""


_AFTER_WORD_OR_LINE = re.compile(r"(?<=\S)(?= )|(?<=\n)(?=\S)")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

PATTERNS: Mapping[str, Pattern] = {
    "llama3": Pattern(
        (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",),
        _AFTER_WORD_OR_LINE,
    ),
    "gpt2": Pattern(
        (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",),
        re.compile(r"(?<=\S)(?=[ \n])"),
    ),
    "qwen2": Pattern(
        (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",),
        _AFTER_WORD_OR_LINE,
    ),
    "o200k": Pattern(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
            rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
            rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
        ),
        re.compile(r"(?<=\S)(?= )|(?<=\n)(?=[^\s/])"),
    ),
    "deepseek3": Pattern(
        (
            r"\p{N}{1,3}",
            r"[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
        ),
        _AFTER_WORD_OR_LINE,
        covers=False,
    ),
    "spaces": Pattern((r" *[^ ]+| +",), re.compile(r"(?<=[^ ])(?= )")),
    "metaspace": Pattern((r" [^ ]*|[^ ]+",), re.compile(r"(?= )")),
}
"""By name: those of Llama 3 (also cl100k), GPT-2 (also r50k, p50k), Qwen2, GPT-4o and DeepSeek-V3, character for
character, and the two ways in which SentencePiece keeps tokens from crossing a space."""
_FOREIGN_CUT = re.compile(r"(?<=\S)(?= )")


def split_pieces(text: str, pattern: str) -> Iterator[str]:
    """Cut a long text into pieces of bounded length; `"".join` of them is the text. `pattern` "": one without a name.

    Cuts lie where the pre-tokenizer splits anyway, so the tokens stay the same; only a run of
    `LONGEST_PIECE_CHARACTERS` without such a place is cut in the middle. This bounds the work of the expression and of
    merging, and feeds all cores. Without a name a cut lies before a space, which may change the tokens beside it.
    """
    known = PATTERNS.get(pattern)
    safe_cut, longest = (
        (known.safe_cut, LONGEST_PIECE_CHARACTERS) if known else (_FOREIGN_CUT, LONGEST_FOREIGN_PIECE_CHARACTERS)
    )
    start = 0
    while len(text) - start > longest:
        found = safe_cut.search(text, start + min(PIECE_CHARACTERS, longest // 2), start + longest)
        stop = found.start() if found else start + longest
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def split_steps(pattern: str) -> list[dict[str, Any]]:
    """A named pattern as steps of a pre-tokenizer in tokenizer.json."""
    return [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in PATTERNS[pattern].expressions
    ]


def name_of(steps: list[dict[str, Any]]) -> str:
    """Name of the pattern that these steps are, "" when they are none of `PATTERNS`."""
    return next((name for name in PATTERNS if split_steps(name) == steps), "")
