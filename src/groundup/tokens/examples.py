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
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from groundup.config import Config, Name
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading, SourceConfig
from groundup.corpus.reading.records import Row
from groundup.errors import DataError
from groundup.log import logger
from groundup.stage import hash_file

TaskKind = Literal["sequence", "token", "number", "span"]
"""What is said of a text: a label, a label of each word, a number, or a span of it."""
SAMPLES_PER_REASON = 3


class TaskSourceConfig(Config):
    """Where labelled records lie and which fields they have."""

    name: Name
    """Name of the source in reports and losses."""
    path: str
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

    @field_validator("path")
    @classmethod
    def _local(cls, path: str) -> str:
        if not path or "\0" in path or "://" in path:
            raise ValueError("must name a local file, a folder or a glob; download data first")
        return path


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


class Refused(Exception):
    """A record that is no example: why, and what there is instead."""


class ExampleReading:
    """One pass over a source: iterate for its examples; the counts are whole when the pass is over."""

    def __init__(self, config: TaskSourceConfig, kind: TaskKind, base: Path) -> None:
        self.config, self.kind = config, kind
        self._found = find_files(config.path, base)
        self._begin()

    def _begin(self) -> None:
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}
        self.files: dict[str, str] = {}

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of files (by name) and records. Raises DataError when there is none."""
        self._begin()
        for file in self._found.files:
            reading = Reading(file, self._as_source(), Path(tempfile.gettempdir()))
            for row in reading.rows():
                if not isinstance(row, Row):
                    self._reject(row.reason, row.records, f"{file.name}:{row.number} {row.sample}")
                    continue
                try:
                    example = self._example(row, file.name)
                except Refused as refused:
                    self._reject(refused.args[0], 1, " ".join([f"{file.name}:{row.number}", *refused.args[1:]]))
                else:
                    self.accepted += 1
                    yield example
            self.files[file.name] = str(reading.detected or "not readable")
        self._say()

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

    def _example(self, row: Row, file_name: str) -> Example:
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

    def _reject(self, reason: str, records: int, sample: str) -> None:
        self.rejected[reason] += records
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append(sample[:200])

    def _say(self) -> None:
        name, rejected = self.config.name, sum(self.rejected.values())
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.rejected.most_common(3))
        if not self.accepted:
            raise DataError(
                f"{self.config.path[-60:]}: no record of '{name}' can be used, {rejected} rejected: {reasons[:80]}; "
                "set text_field and label_field",
                details=[sample for samples in self.samples.values() for sample in samples],
            )
        logger.info(f"{name}: {self.accepted} examples, {rejected} records rejected")
        if rejected:
            logger.warning(
                f"{name}: {rejected} rejected: {reasons}; for example {next(iter(self.samples.values()))[0]}"
            )

    def account(self) -> dict[str, Any]:
        """Account of the pass: total = accepted + the sum of rejected."""
        return {
            "total": self.accepted + sum(self.rejected.values()),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "rejected_samples": self.samples,
            "files": self.files,
            "skipped_files": {skipped.name: skipped.reason for skipped in self._found.skipped},
        }


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
