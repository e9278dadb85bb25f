"""Text -> token ids by looking whole words up, many times faster than cutting and merging each one anew.

    text --the pattern's expressions, by Python's engine--> words --look-up--> ids
                                                            |  not met before
                                                            +--> the library's model, word by word --> kept

Natural text is made of few words that come again and again, so nearly every word is one look-up, and a text's ids are
one join of bytes. Python's engine knows no `\\p{L}`: the character sets are asked of the library itself, for the Basic
Multilingual Plane; parts with other characters (emoji, rare scripts) go to the library as they are.

Invariant: the ids are those that the library gives for the whole text.
"""

from __future__ import annotations

import re
from array import array
from codecs import charmap_decode
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby

import tokenizers
from tokenizers import Regex, pre_tokenizers

from groundup.tokens.patterns import PATTERNS

KNOWN_WORDS = 1 << 19
KNOWN_CHARACTERS = 1 << 25
"""Beyond either of these what was met is forgotten: about 100 MB."""
_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")
_PROPERTY = re.compile(r"\\p\{\w+\}|\\s")
_SET_OR_PROPERTY = re.compile(rf"\[(?:\\.|[^\]\\])*\]|{_PROPERTY.pattern}")
_ALL_BMP = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x10000))))


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """The words of a text without characters beyond the Basic Multilingual Plane, under a named pattern."""
    wanted = PATTERNS[pattern]
    if wanted.covers:
        return re.compile(_translated(wanted.expressions[0])).findall
    steps = [re.compile(f"({_translated(expression)})") for expression in wanted.expressions]

    def words(text: str) -> list[str]:
        parts = [text]
        for step in steps:
            parts = [word for part in parts for word in step.split(part) if word]
        return parts

    return words


def parts_of(text: str, pattern: str) -> Iterator[tuple[bool, str]]:
    """The text in parts, cut where the pattern splits anyway; True for those with characters beyond the BMP."""
    if not _BEYOND_BMP.search(text):
        yield False, text
        return
    pieces = PATTERNS[pattern].safe_cut.split(text)
    for beyond, group in groupby(pieces, key=lambda piece: _BEYOND_BMP.search(piece) is not None):
        yield beyond, "".join(group)


class WordEncoder:
    """Encodes texts word by word into raw ids, of `dtype` "<u2" or "<u4".

    `library` encodes whole texts; its model is asked for single words, spelt in `alphabet` if there is one (its
    characters stand for the bytes 0 to 255). Raises as the library does, and UnicodeEncodeError on lone surrogates.
    """

    def __init__(self, pattern: str, library: tokenizers.Tokenizer, alphabet: str, dtype: str) -> None:
        self._pattern, self._library, self._alphabet = pattern, library, alphabet
        self._type_code = {"<u2": "H", "<u4": "I"}[dtype]
        self._words = splitter(pattern)
        self._known: dict[str, bytes] = {}
        self._known_characters = 0

    def encode(self, text: str) -> bytes:
        """Ids of a text, as raw bytes."""
        parts = parts_of(text, self._pattern)
        return b"".join(self._by_library(part) if beyond else self._by_words(part) for beyond, part in parts)

    def _by_library(self, text: str) -> bytes:
        return self._raw(self._library.encode(text, add_special_tokens=False).ids)

    def _by_words(self, text: str) -> bytes:
        words = self._words(text)
        try:
            return b"".join(map(self._known.__getitem__, words))
        except KeyError:
            self._learn(set(words))
            return b"".join(map(self._known.__getitem__, words))

    def _learn(self, words: Iterable[str]) -> None:
        """Make all of `words` known, and forget the others when there are too many."""
        if len(self._known) > KNOWN_WORDS or self._known_characters > KNOWN_CHARACTERS:
            self._known.clear()
            self._known_characters = 0
        fresh = [word for word in words if word not in self._known]
        tokenize = self._library.model.tokenize
        for word in fresh:
            spelt = charmap_decode(word.encode(), "strict", self._alphabet)[0] if self._alphabet else word
            self._known[word] = self._raw([token.id for token in tokenize(spelt)])
        self._known_characters += sum(map(len, fresh))

    def _raw(self, ids: list[int]) -> bytes:
        return array(self._type_code, ids).tobytes()


def _translated(expression: str) -> str:
    """An expression of the library for Python's engine: the same but for character sets, which are written out."""
    return _SET_OR_PROPERTY.sub(lambda found: _in_set(found[0]), expression.replace(r"\S", r"[^\s]"))


def _in_set(text: str) -> str:
    """A property as a set, or a set with its properties written out."""
    return _PROPERTY.sub(lambda found: ranges_of(found[0]), text if text[0] == "[" else f"[{text}]")


@lru_cache
def ranges_of(name: str) -> str:
    """The characters of a property such as \\p{L}, as the library has them, in the form of ranges within a set."""
    runs = pre_tokenizers.Split(Regex(f"{name}+"), "removed", invert=True).pre_tokenize_str(_ALL_BMP)
    return "".join(f"\\u{ord(run[0]):04x}-\\u{ord(run[-1]):04x}" for run, _ in runs)
