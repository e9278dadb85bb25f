"""Files of labelled records -> Example, each record accepted or rejected with a reason.

    sequence   {text, [pair], label}          a label of a text or of a pair of texts
    multilabel {text, [pair], label: [...]}   all labels that it has, none at all too
    number     {text, [pair], label: 4.2}     a number of the same
    token      {text: [words], label: [...]}  a label of each word (in CSV: words and labels with spaces between them)
    span       {pair: question, text, label: {text: [...], answer_start: [...]}}    where in the text the answer stands

Files are read as every corpus is: JSON lines, JSON, CSV, TSV, Parquet, plain or compressed, in any encoding. Fields are
named by the recipe; `#1` is the first column of a file without a header, `meta.text` a field inside a field.
Invariant: total = accepted + rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import SourceConfig
from groundup.corpus.reading.records import Row
from groundup.stage import hash_file
from groundup.tokens.conversation_fields import value_of
from groundup.tokens.example_values import (
    answers_of,
    is_whole,
    label_of,
    labels_of_text,
    number_of,
    text_of,
    words_of,
)
from groundup.tokens.record_reading import RecordReading, Refused

TaskKind = Literal["sequence", "multilabel", "token", "number", "span"]
"""What is said of a text: a label, any number of labels, a label of each word, a number, or a span of it."""
_DIGITS = 9
"""Of the number of a label, at most."""


class TaskSourceConfig(Config):
    """Where labelled records lie and which fields they have."""

    name: Name
    """Name of the source in reports and losses."""
    path: LocalPath
    """A file, a folder or a glob; absolute, or relative to the current folder, or to the recipe."""
    text_field: str = "text"
    """Field of the text (token: list of words; span: the text that holds the answer)."""
    pair_field: str = ""
    """Field of the second text of a pair; of spans the field of the question."""
    label_field: str = "label"
    """Field of the label, the number, the list of labels (in a table's cell with |, ; or , between), or of spans the
    answers."""

    @field_validator("text_field", "pair_field", "label_field")
    @classmethod
    def _plain(cls, name: str) -> str:
        if "{" in name or "}" in name:
            raise ValueError("should be the name of one field, without braces")
        return name

    @property
    def labelled(self) -> bool:
        """Whether records have labels; what is to be predicted has none."""
        return bool(self.label_field)

    max_record_bytes: int = Field(default=1 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled text. `id` is `<file>:<record number>`."""

    id: str
    text: str
    pair: str | None = None
    label: str = ""
    """The one label of the text."""
    number: float = 0.0
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """A label of each word, or all labels of the text."""
    answers: tuple[tuple[str, int], ...] = ()
    """Right answers, each with the character of `text` at which it starts; none: the text has no answer."""


class ExampleReading(RecordReading[Example]):
    """One pass over a source: iterate for its examples; the counts are whole when the pass is over."""

    plural, remedy = "examples", "set text_field and label_field"

    def __init__(self, config: TaskSourceConfig, kind: TaskKind, base: Path, labels: Sequence[str] = ()) -> None:
        """`labels`: names that the recipe gives, in order; records may then have their numbers instead."""
        self.config, self.kind = config, kind
        self._asked = tuple(labels)
        self._names = () if any(map(is_whole, labels)) else tuple(labels)
        super().__init__(config.name, self._as_source(), find_files(config.path, base))

    def _fields(self) -> list[str]:
        config = self.config
        return [name for name in (config.text_field, config.pair_field, config.label_field) if name]

    def _as_source(self) -> SourceConfig:
        """How corpus.reading is to read the files: the template names all fields, so that each is looked for."""
        template = " ".join("{" + name + "}" for name in self._fields())
        limit = self.config.max_record_bytes
        return SourceConfig(
            name=self.config.name, path=self.config.path, text_template=template, max_document_bytes=limit
        )

    def item(self, row: Row, file_name: str) -> Example:
        """The example that a record holds. Raises Refused."""
        config = self.config
        where = f"{file_name}/{row.member}:{row.number}" if row.member else f"{file_name}:{row.number}"
        found = {name: value_of(row.values, name) for name in self._fields()}
        text, label = found[config.text_field], found.get(config.label_field)
        if self.kind == "token" and config.labelled:
            words, labels = words_of(text, "text"), words_of(label, "label")
            if len(words) != len(labels):
                raise Refused(f"{len(words)} words with {len(labels)} labels")
            return Example(where, " ".join(words), words=words, labels=tuple(map(self._named, labels)))
        pair = text_of(found[config.pair_field], config.pair_field) if config.pair_field else None
        if self.kind == "token" and isinstance(text, list):
            words = words_of(text, "text")
            return Example(where, " ".join(words), words=words)
        text = text_of(text, config.text_field)
        if not config.labelled:
            return Example(where, text, pair)
        if self.kind == "sequence":
            return Example(where, text, pair, label=self._named(label_of(label)))
        if self.kind == "multilabel":
            return Example(where, text, pair, labels=self._all_named(labels_of_text(label, self._asked)))
        if self.kind == "number":
            return Example(where, text, pair, number=number_of(label))
        if pair is None:
            raise Refused("no question: set pair_field")
        return Example(where, text, pair, answers=answers_of(label, text))

    def _all_named(self, labels: Sequence[str]) -> tuple[str, ...]:
        """All labels of a text by name, each once. Raises Refused."""
        names = tuple(map(self._named, labels))
        if len(set(names)) < len(names):
            raise Refused("a label twice (one 0 or 1 for each label: write them as 0.0 and 1.0)")
        return names

    def _named(self, label: str) -> str:
        """The name of a label that is given by its number."""
        number = int(label) if label.isdecimal() and len(label) <= _DIGITS else len(self._names)
        return self._names[number] if number < len(self._names) else label


def task_source_identity(config: TaskSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_files(config.path, base).files}
    return {**config.model_dump(mode="json", exclude={"path"}), "files": files}
