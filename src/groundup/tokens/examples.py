"""Files of labelled records -> Example, each record accepted or rejected with a reason.

    sequence   {text, [pair], label}          a label of a text or of a pair of texts
    number     {text, [pair], label: 4.2}     a number of the same
    token      {text: [words], label: [...]}  a label of each word (in CSV: words and labels with spaces between them)
    span       {pair: question, text, label: {text: [...], answer_start: [...]}}    where in the text the answer stands

Files are read as every corpus is: JSON lines, JSON, CSV, TSV, Parquet, plain or compressed, in any encoding. Fields are
named by the recipe; `#1` is the first column of a file without a header. Invariant: total = accepted + rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import SourceConfig
from groundup.corpus.reading.records import Row
from groundup.stage import hash_file
from groundup.tokens.record_reading import RecordReading, Refused

TaskKind = Literal["sequence", "token", "number", "span"]
"""What is said of a text: a label, a label of each word, a number, or a span of it."""
SAMPLES_PER_REASON = 3


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
    """Field of the label, the number, the list of labels, or of spans the answers."""

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
    number: float = 0.0
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    answers: tuple[tuple[str, int], ...] = ()
    """Right answers, each with the character of `text` at which it starts; none: the text has no answer."""


class ExampleReading(RecordReading[Example]):
    """One pass over a source: iterate for its examples; the counts are whole when the pass is over."""

    plural, remedy = "examples", "set text_field and label_field"

    def __init__(self, config: TaskSourceConfig, kind: TaskKind, base: Path) -> None:
        self.config, self.kind = config, kind
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
        for name in self._fields():
            if name not in row.values:
                shown = ", ".join(str(key)[:30] for key in list(row.values)[:12])
                raise Refused(f"no field '{name}'", f"found: {shown or 'none'}")
        where = f"{file_name}/{row.member}:{row.number}" if row.member else f"{file_name}:{row.number}"
        text, label = row.values[config.text_field], row.values.get(config.label_field)
        if self.kind == "token" and config.labelled:
            words, labels = _strings(text, "text"), _strings(label, "label")
            if len(words) != len(labels):
                raise Refused(f"{len(words)} words with {len(labels)} labels")
            return Example(where, " ".join(words), words=words, labels=labels)
        pair = _text(row.values[config.pair_field], config.pair_field) if config.pair_field else None
        if self.kind == "token" and isinstance(text, list):
            words = _strings(text, "text")
            return Example(where, " ".join(words), words=words)
        text = _text(text, config.text_field)
        if not config.labelled:
            return Example(where, text, pair)
        if self.kind == "sequence":
            return Example(where, text, pair, label=_label(label))
        if self.kind == "number":
            return Example(where, text, pair, number=_number(label))
        if pair is None:
            raise Refused("no question: set pair_field")
        return Example(where, text, pair, answers=_answers(label, text))


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"field '{field}' is no text")
    if not value.strip():
        raise Refused(f"field '{field}' is empty")
    return _encodable(value)


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("lone surrogate (no character)") from None
    return value


def _label(value: Any) -> str:
    """A label as text: strings, whole numbers (1.0 is 1) and true or false; anything else is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str) and value.strip():
        return _encodable(value.strip())
    if isinstance(value, float) and not math.isnan(value):
        raise Refused("label is a number with decimals; set kind: number")
    missing = value is None or isinstance(value, str | float)
    raise Refused("no label" if missing else f"label is a {type(value).__name__}")


def _number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > 1e30:
        raise Refused("label is no finite number")
    return number


def _strings(value: Any, what: str) -> tuple[str, ...]:
    values = value.split() if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise Refused(f"{what} is no list of words")
    found = tuple(str(each) if type(each) is int else each for each in values)
    if not all(isinstance(each, str) and each.strip() for each in found):
        raise Refused(f"{what} holds something that is no word")
    return tuple(_encodable(each) for each in found)


def _answers(value: Any, text: str) -> tuple[tuple[str, int], ...]:
    """Answers as SQuAD has them, {text: [...], answer_start: [...]} or a list of {text, answer_start}."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise Refused("answers have no equally long text and answer_start")
        pairs = list(zip(texts, starts))
    elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        pairs = [(each.get("text"), each.get("answer_start")) for each in value]
    else:
        raise Refused("answers are no {text, answer_start}")
    for answer, start in pairs:
        if not isinstance(answer, str) or type(start) is not int or start < 0 or not answer:
            raise Refused("an answer without text or answer_start")
        if text[start : start + len(answer)] != answer:
            raise Refused("an answer that does not stand where answer_start says")
    return tuple(pairs)


def task_source_identity(config: TaskSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_files(config.path, base).files}
    return {**config.model_dump(mode="json", exclude={"path"}), "files": files}
