"""A document's text with what several rules need of it, computed once and only if asked for; and what a rule may say.

    rule(text) -> None: nothing to do | Edited: the mended text | Dropped: the reason, the measured value, its bound

Invariant: a rule depends on nothing but the text, its own config and the run's fixed resources, so the outcome is the
same in every process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from groundup.corpus.clean.words import Words, find_words

_SAMPLE_CHARACTERS = 2000
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


@dataclass(frozen=True, slots=True)
class Dropped:
    """The document goes. `reason` is counted; `value` was measured where the rule demands `bound`."""

    reason: str
    value: float | str | None = None
    bound: float | str | None = None
    excerpt: str = ""
    """What to show in place of the document's beginning."""
    rule: str = field(default="", compare=False)
    """The rule that said so, once the cleaner has noted it."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The document stays with this text; `counts`: kind of edit -> how many (repairs, masked values, lines gone)."""

    string: str
    counts: dict[str, int] = field(default_factory=dict)


class Text:
    """A string and its features."""

    def __init__(self, string: str) -> None:
        self.string = string
        self.identified, self.confidence = "", 0.0

    def set_language(self, code: str, confidence: float) -> None:
        """What the language rule found; later rules choose their bounds by it."""
        self.identified, self.confidence = code, confidence
        self.__dict__.pop("language", None)

    def edited(self, string: str) -> Text:
        """The same document with another string."""
        text = Text(string)
        text.identified, text.confidence = self.identified, self.confidence
        return text

    @cached_property
    def lines(self) -> list[str]:
        """Lines without their ends, as `str.splitlines` finds them."""
        return self.string.splitlines()

    @cached_property
    def filled_lines(self) -> list[str]:
        """Lines that hold more than white space."""
        return [line for line in self.lines if line and not line.isspace()]

    @cached_property
    def words(self) -> Words:
        """All words in order."""
        return find_words(self.string)

    @cached_property
    def language(self) -> str:
        """Language code without its script: as identified, or "zh", "ja", "ko" by the script, else "en".

        Cantonese and Wu count as Chinese: bounds and function words are those of its writing.
        """
        code = self.identified.partition("-")[0]
        return "zh" if code in ("yue", "wuu") else code or language_of_script(self.string)

    @property
    def unspaced(self) -> bool:
        """Whether most words are single characters of a script without spaces."""
        return not self.string.isascii() and self.words.mostly_unspaced


Outcome = Dropped | Edited | None
Rule = Callable[[Text], Outcome]


def language_of_script(string: str) -> str:
    """ "ja" with kana, "ko" with Hangul, "zh" with Han characters as most of the text; "en" for all other scripts."""
    if string.isascii():
        return "en"
    middle = len(string) // 2
    sample = string[:_SAMPLE_CHARACTERS] + string[middle : middle + _SAMPLE_CHARACTERS]
    han, kana, hangul = (len(pattern.findall(sample)) for pattern in (_HAN, _KANA, _HANGUL))
    if 3 * (han + kana + hangul) < sum(map(str.isalpha, sample)):
        return "en"
    if hangul > han + kana:
        return "ko"
    return "ja" if 20 * kana > han + kana else "zh"
