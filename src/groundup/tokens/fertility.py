"""Documents and tokenizers -> how many tokens the text needs, by source and by language.

    tokens_per_word        fertility (Rust et al. 2021, arXiv:2012.15613): 1 is one token for every word
    tokens_per_character   the same for scripts that write no spaces between words
    bytes_per_token        compression: the higher, the more text a context and a budget of tokens hold

A word is a run of letters, marks and digits; a Han or kana character is one by itself. The language of a document is
what its metadata says, else the script that most of its letters are of.

Invariant: the figures of all tokenizers are of the same text, and those of sources add up to those of all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from groundup.tokens.tokenizer import Tokenizer
from groundup.tokens.words import ranges_of

BATCH_CHARACTERS = 500_000
SCRIPT_CHARACTERS = 2000
"""So much of a document decides its script."""
OWN = "this tokenizer"
_CHARACTERS_AS_WORDS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "FULLWIDTH": "Latin"}
"""First words of character names that are no script's name."""


class HasTextAndMetadata(Protocol):
    """What is measured of a document."""

    @property
    def text(self) -> str:
        """The document's text."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known of it; `language` is looked at."""


@dataclass
class _Sums:
    """What was counted of one group of documents; `tokens` by tokenizer."""

    documents: int = 0
    text_bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: Counter[str] = field(default_factory=Counter)

    def add(self, text: str, tokens: Mapping[str, int]) -> None:
        self.documents += 1
        self.text_bytes += len(text.encode())
        self.characters += len(text)
        self.words += sum(1 for _ in _word().finditer(text))
        self.tokens.update(tokens)

    def figures(self) -> dict[str, Any]:
        """Counts, and for each tokenizer the three figures; `to_own`: its tokens for one of the first tokenizer's."""
        own = next(iter(self.tokens.values()), 0)
        return {
            "documents": self.documents,
            "bytes": self.text_bytes,
            "characters": self.characters,
            "words": self.words,
            "tokenizers": {
                name: {
                    "tokens": count,
                    "tokens_per_word": _ratio(count, self.words),
                    "tokens_per_character": _ratio(count, self.characters),
                    "bytes_per_token": _ratio(self.text_bytes, count),
                    "to_own": _ratio(count, own),
                }
                for name, count in self.tokens.items()
            },
        }


def measure_fertility(
    sources: Mapping[str, Iterable[HasTextAndMetadata]], tokenizers: Mapping[str, Tokenizer], limit_bytes: int = 0
) -> dict[str, Any]:
    """{vocab_size: {tokenizer: n}, all, sources: {name: figures}, languages: {name: figures}} of the documents.

    `limit_bytes`: only so much of each source, whole documents from its start (0: all). The first tokenizer is the one
    that others are compared with.
    """
    whole, by_source, by_language = _Sums(), dict[str, _Sums](), dict[str, _Sums]()
    for name, documents in sources.items():
        for batch in _batches(documents, limit_bytes):
            texts = [document.text for document in batch]
            counts = {label: [len(ids) for ids in t.encode_arrays(texts)] for label, t in tokenizers.items()}
            for number, document in enumerate(batch):
                tokens = {label: of_texts[number] for label, of_texts in counts.items()}
                language = _language(document)
                groups = (by_source.setdefault(name, _Sums()), by_language.setdefault(language, _Sums()))
                for sums in (whole, *groups):
                    sums.add(document.text, tokens)
    return {
        "vocab_size": {label: tokenizer.vocab_size for label, tokenizer in tokenizers.items()},
        "all": whole.figures(),
        "sources": {name: sums.figures() for name, sums in by_source.items()},
        "languages": {name: sums.figures() for name, sums in sorted(by_language.items())},
    }


def _batches(documents: Iterable[HasTextAndMetadata], limit_bytes: int) -> Iterator[Sequence[HasTextAndMetadata]]:
    batch: list[HasTextAndMetadata] = []
    characters = size_bytes = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        size_bytes += len(document.text.encode())
        full = bool(limit_bytes) and size_bytes >= limit_bytes
        if full or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        if full:
            return
    if batch:
        yield batch


def _ratio(above: int, below: int) -> float | None:
    return round(above / below, 4) if below else None


@lru_cache
def _word() -> re.Pattern[str]:
    letters = "".join(map(ranges_of, (r"\p{L}", r"\p{M}", r"\p{N}")))
    return re.compile(f"[{_CHARACTERS_AS_WORDS}]|(?:(?![{_CHARACTERS_AS_WORDS}])[{letters}\U00010000-\U0001ffff])+")


def _language(document: HasTextAndMetadata) -> str:
    """`language` of its metadata, else "<script> script"."""
    stated = document.metadata.get("language")
    if isinstance(stated, str) and stated:
        return stated
    scripts = Counter[str]()
    for character, count in Counter(document.text[:SCRIPT_CHARACTERS]).items():
        if character.isalpha():
            first = unicodedata.name(character, "OTHER").split()[0]
            scripts[_SCRIPTS.get(first, first.capitalize())] += count
    if scripts["Kana"] * 10 > scripts.total():
        return "Kana script"
    return f"{max(sorted(scripts), key=scripts.__getitem__)} script" if scripts else "no letters"
