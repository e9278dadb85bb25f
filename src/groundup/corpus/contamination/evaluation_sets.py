"""Evaluation sets -> the texts in them that training text must not hold.

    file --readers--> record --all texts in it, or those of `fields`--> examples, each with a label and its texts

Invariant: every record of a set is an example, also one of which no text is long enough to be looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from groundup.config import Config, LocalPath, Name
from groundup.corpus.accounts.account import escaped
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig, SourceConfig
from groundup.errors import DataError

_DEPTH_LIMIT = 32


class EvaluationSetConfig(Config):
    """Questions or texts that must not be trained on, looked for by runs of words that a document shares with them."""

    name: Name
    """Name of the set in the report."""
    path: LocalPath
    """A file, a folder or a glob, of any format that sources have; absolute, or as a source's path."""
    fields: tuple[str, ...] = ()
    """Fields of a record that are looked for; empty: every text in it, however deep."""
    action: Literal["drop", "report"] = "drop"
    """`drop`: documents that share a text with the set are not trained on. `report`: they are only counted."""
    ngram_words: int = Field(default=13, ge=5, le=100)
    """Words in a row that count as the same text (13 as for GPT-3); a text from 0.6 as long is looked for whole."""
    ngram_characters: int = Field(default=20, ge=5, le=200)
    """The same for scripts without spaces, in characters."""
    min_overlap: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of a text's n-grams that a document must hold to count; 0: one is enough."""


@dataclass(frozen=True)
class Example:
    """One record of an evaluation set: where it is from, and its texts."""

    label: str
    texts: tuple[str, ...]


def read_examples(config: EvaluationSetConfig, base: Path, spool_folder: Path) -> Iterator[Example]:
    """Every readable record of a set. Raises DataError when the path holds none with a text in it."""
    found, fault = 0, ""
    if config.fields:
        first, *more = config.fields
        # By template, as the texts of a record may stand in a list.
        source = SourceConfig(
            name=config.name,
            path=config.path,
            text_field=first,
            text_template=f"{{{first}}}",
            metadata_fields=tuple(more),
        )
    else:
        source = RecordSourceConfig(name=config.name, path=config.path, known_keys=("text",))
    for file in find_files(config.path, base).files:
        for row in Reading(file, source, spool_folder).rows():
            if isinstance(row, Row):
                texts = tuple(texts_of(row.values, config.fields))
                found += len(texts)
                yield Example(f"{file.name}:{row.number}", texts)
            else:
                fault = fault or f" ({row.reason}: {escaped(row.sample)[:60]})"
    if not found:
        what = f"no field {' or '.join(config.fields)[:40]} with text" if config.fields else "no text"
        raise DataError(f"decontaminate '{config.name}': {what} in {config.path[-40:]}{fault}; correct path or fields")


def texts_of(values: Mapping[str, Any], fields: Sequence[str] = ()) -> Iterator[str]:
    """The strings in a record, or in some of its fields."""
    for key in fields or values:
        if key in values:
            yield from _strings(values[key], 0)


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < _DEPTH_LIMIT:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner, depth + 1)
