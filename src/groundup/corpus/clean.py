"""A document -> the cleaned document, or the reason why it is dropped: small filters, one after another.

    Document --newlines--> --control characters--> --unicode--> --length--> Document | reason

To add a filter: one function `(document, config) -> Document | str` and its config field here, one line in FILTERS.

Invariant: a filter depends on nothing but the document and its config, so the outcome is the same in every process
and cleaning a cleaned document changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from pydantic import Field, model_validator

from groundup.config import Config
from groundup.corpus.documents import Document


class CleanConfig(Config):
    """What is mended and what is dropped before deduplication."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer documents are dropped; 0: no limit."""
    unicode: Literal["keep", "nfc"] = "keep"
    """`nfc` composes characters, so that a letter with an accent is always the same code point."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_characters and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters must be 0 or at least min_characters = {self.min_characters}")
        return self


Filter = Callable[[Document, CleanConfig], Document | str]

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]+")

_ASCII_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r")) + b"\x7f"


def newlines(document: Document, config: CleanConfig) -> Document | str:
    """CRLF, CR, vertical tab and form feed become line feeds."""
    text = document.text
    if "\r" in text or "\f" in text or "\v" in text:
        return replace(document, text=_LINE_ENDS.sub("\n", text))
    return document


def control_characters(document: Document, config: CleanConfig) -> Document | str:
    """NUL, escape and other C0 and C1 controls, byte order marks and non-characters go; tab, line feed, NEL stay."""
    if _has_controls(document.text):
        return replace(document, text=_CONTROLS.sub("", document.text))
    return document


def _has_controls(text: str) -> bool:
    data = text.encode()  # deleting bytes is ten times faster than a regular expression over all characters
    if len(data.translate(None, _ASCII_CONTROLS)) != len(data):
        return True
    return not text.isascii() and _CONTROLS.search(text) is not None


def compose(document: Document, config: CleanConfig) -> Document | str:
    """Unicode NFC where the config asks for it."""
    if config.unicode == "keep" or unicodedata.is_normalized("NFC", document.text):
        return document
    return replace(document, text=unicodedata.normalize("NFC", document.text))


def length(document: Document, config: CleanConfig) -> Document | str:
    """Drops what is empty, too short or too long, in characters without the white space around."""
    count = len(document.text.strip())
    if not count:
        return "empty after cleaning"
    if count < config.min_characters:
        return "shorter than min_characters"
    if config.max_characters and count > config.max_characters:
        return "longer than max_characters"
    return document


FILTERS: dict[str, Filter] = {
    "line ends": newlines,
    "control characters": control_characters,
    "unicode": compose,
    "length": length,
}


@dataclass
class Changes:
    """How many documents each filter changed, and by how many characters they became shorter."""

    documents: dict[str, int] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, removed_characters: int) -> None:
        """One document more that filter `name` changed."""
        self.documents[name] = self.documents.get(name, 0) + 1
        self.characters[name] = self.characters.get(name, 0) + removed_characters


def clean(document: Document, config: CleanConfig, changes: Changes) -> Document | str:
    """All filters in order; stops at the first that drops the document. Counts what was changed."""
    for name, apply in FILTERS.items():
        outcome = apply(document, config)
        if isinstance(outcome, str):
            return outcome
        if outcome is not document:
            changes.count(name, len(document.text) - len(outcome.text))
        document = outcome
    return document
