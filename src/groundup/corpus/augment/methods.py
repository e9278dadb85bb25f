"""Ways to make another document of one, without a model: each a pure function of the text and a random generator.

sentence_shuffle  sentences of each paragraph in another order     sentence_deletion  some sentences less
span_noise        spans of words gone or masked                    synonyms           some words replaced

Invariant: the same text and generator give the same result in every process; a text that a method cannot change comes
back as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import Field

from groundup.config import Config, Name
from groundup.corpus.clean.scripts import UNSPACED_CLASS
from groundup.corpus.named_files import read_named
from groundup.corpus.sentences import split_sentences
from groundup.errors import DataError

_PARAGRAPH = re.compile(r"(\n+)")
_WORD = re.compile(rf"[{UNSPACED_CLASS}]|[^\s{UNSPACED_CLASS}]+")
_DICTIONARY_WORD = re.compile(rf"[^\W{UNSPACED_CLASS}]+(?:['’-][^\W{UNSPACED_CLASS}]+)*")
_UNSPACED = re.compile(f"[{UNSPACED_CLASS}]")


class MethodConfig(Config):
    """What all methods have."""

    name: Name
    """Name of the method in the report and in the ids of its documents."""
    fraction: float = Field(gt=0, le=1)
    """Share of the documents of the train split that it is used on, drawn by a hash of each document's id."""
    copies: int = Field(default=1, ge=1, le=100)
    """Documents added for each of these."""
    sources: tuple[Name, ...] = ()
    """Only documents of these sources; empty: of all."""


class SentenceShuffleConfig(MethodConfig):
    """The sentences of each paragraph in another order."""

    kind: Literal["sentence_shuffle"] = "sentence_shuffle"


class SentenceDeletionConfig(MethodConfig):
    """Some sentences are left out, never all of a document."""

    kind: Literal["sentence_deletion"] = "sentence_deletion"
    share: float = Field(default=0.1, gt=0, lt=1)
    """Chance of each sentence to go."""


class SpanNoiseConfig(MethodConfig):
    """Spans of words are left out or masked."""

    kind: Literal["span_noise"] = "span_noise"
    share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the words in spans (0.15, in spans of 3: Raffel et al. 2020)."""
    mean_words: float = Field(default=3.0, ge=1)
    """Mean length of a span in words (characters in scripts without spaces)."""
    placeholder: str = Field(default="", max_length=60)
    """What stands in place of a span; empty: nothing."""


class SynonymsConfig(MethodConfig):
    """Some words are replaced by synonyms from the user's dictionary."""

    kind: Literal["synonyms"] = "synonyms"
    path: str
    """UTF-8 text, each line a word, tab, its synonyms with tabs between; relative to the current or recipe's folder."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Chance of each word that the dictionary has to be replaced."""


def sentence_shuffle(config: SentenceShuffleConfig, text: str, random: Random) -> str:
    """Paragraphs stay where they are; the white space between sentences too."""
    pieces = _PARAGRAPH.split(text)
    for index in range(0, len(pieces), 2):
        sentences = split_sentences(pieces[index])
        bodies = [sentence.rstrip() for sentence in sentences]
        gaps = [sentence[len(body) :] for sentence, body in zip(sentences, bodies)]
        random.shuffle(bodies)
        pieces[index] = "".join(body + gap for body, gap in zip(bodies, gaps))
    return "".join(pieces)


def sentence_deletion(config: SentenceDeletionConfig, text: str, random: Random) -> str:
    """At least one sentence stays."""
    sentences = split_sentences(text)
    kept = [sentence for sentence in sentences if random.random() >= config.share]
    return "".join(kept).strip() or next((sentence.strip() for sentence in sentences if sentence.strip()), "")


def span_noise(config: SpanNoiseConfig, text: str, random: Random) -> str:
    """Spans begin at random words; their lengths are geometric with the wanted mean."""
    words = list(_WORD.finditer(text))
    begin, go_on = config.share / (1 - config.share) / config.mean_words, 1 - 1 / config.mean_words
    pieces, position, inside = [], 0, False
    for number, word in enumerate(words):
        was_inside, inside = inside, random.random() < (go_on if inside else begin)
        if not inside:
            continue
        if not was_inside:
            pieces += [text[position : word.start()], config.placeholder]
        following = words[number + 1].start() if number + 1 < len(words) else len(text)
        position = word.end() if config.placeholder else following
    return "".join([*pieces, text[position:]])


@dataclass(frozen=True)
class SynonymTable:
    """A dictionary as read: word in lower case -> its synonyms."""

    entries: dict[str, tuple[str, ...]]

    @cached_property
    def unspaced(self) -> dict[str, tuple[str, ...]]:
        """First character -> entries of scripts without spaces, longest first."""
        table: dict[str, tuple[str, ...]] = {}
        for entry in sorted(filter(_UNSPACED.match, self.entries), key=lambda entry: (-len(entry), entry)):
            table[entry[0]] = (*table.get(entry[0], ()), entry)
        return table


def synonyms(config: SynonymsConfig, table: SynonymTable, text: str, random: Random) -> str:
    """Whole words in any case (a capital stays one); in scripts without spaces the longest entry at each place."""
    pieces, position = [], 0
    for start, end in _entries_in(table, text):
        if random.random() >= config.share:
            continue
        word = text[start:end]
        other = random.choice(table.entries[word.lower()])
        pieces += [text[position:start], other[:1].upper() + other[1:] if word[:1].isupper() else other]
        position = end
    return "".join([*pieces, text[position:]])


def _entries_in(table: SynonymTable, text: str) -> list[tuple[int, int]]:
    spans = [word.span() for word in _DICTIONARY_WORD.finditer(text) if word[0].lower() in table.entries]
    if not table.unspaced:
        return spans
    position = 0
    for character in _UNSPACED.finditer(text):
        for entry in table.unspaced.get(character[0], ()) if character.start() >= position else ():
            if text.startswith(entry, character.start()):
                position = character.start() + len(entry)
                spans.append((character.start(), position))
                break
    return sorted(spans)


def read_synonyms(config: SynonymsConfig, places: tuple[Path, ...]) -> SynonymTable:
    """The dictionary of the first place where its file is. Raises DataError when it cannot be used."""
    path, lines = read_named(config.path, places, "dictionary", f"the path of corpus.augment '{config.name}'")
    entries: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, *others = (cell.strip() for cell in line.split("\t"))
        others = [other for other in others if other and other != word]
        if not word or not others:
            raise DataError(f"{path}: line {number} has no synonym; write word, tab, synonym")
        entries[word.lower()] = (*entries.get(word.lower(), ()), *others)
    if not entries:
        raise DataError(f"{path}: the dictionary is empty; write word, tab, synonym on each line")
    return SynonymTable(entries)
