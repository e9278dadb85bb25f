"""Files of conversations -> Conversation, each record accepted or rejected with a reason.

    file --corpus.readers--> record --FORMATS--> turns --order of roles--> Conversation | counted reason

Formats: `messages` ({"messages": [{"role", "content"}, ...]}), `sharegpt` ({"conversations": [{"from", "value"}, ...]})
and `alpaca` ({"instruction", "input", "output", "system", "history"}), in JSON lines or JSON, plain or compressed; see
`conversation_formats.py`.

Invariant: total = accepted + rejected; nothing is repaired but that white space around a turn is cut off, which is
counted, as the template does not carry it.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field, field_validator

from groundup.config import Config, Name
from groundup.corpus.reading.files import Found
from groundup.corpus.reading.readers import Reading, SourceConfig, find_files
from groundup.corpus.reading.records import Row
from groundup.errors import DataError
from groundup.log import logger
from groundup.stage import hash_file
from groundup.tokens.conversation_formats import FORMATS, Refused, check_order, encodable
from groundup.tokens.template import Turn

SAMPLES_PER_REASON = 3
READ_FORMATS = ("jsonl", "json")


class InstructSourceConfig(Config):
    """Where conversations lie and how to read them."""

    name: Name
    """Name of the source in reports and losses."""
    path: str
    """A file, a folder or a glob; absolute, or relative to the current folder, or to the recipe."""
    format: Literal["auto", "alpaca", "messages", "sharegpt"] = "auto"
    """`auto`: each record is recognised by its keys."""
    overlong: Literal["drop", "truncate"] = "drop"
    """A conversation longer than the context is dropped, or cut at its end; both are counted."""
    max_conversation_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""

    @field_validator("path")
    @classmethod
    def _local(cls, path: str) -> str:
        if not path or "\0" in path or "://" in path:
            raise ValueError("must name a local file, a folder or a glob; download data first")
        return path


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of which the last is the assistant's; `id` is `<file>:<record number>`; other plain keys are metadata."""

    id: str
    turns: tuple[Turn, ...]
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-like values that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conversation:
        """The conversation that `as_dict` wrote."""
        turns = tuple(Turn(turn["role"], turn["text"]) for turn in values["turns"])
        return cls(values["id"], turns, values["source"], values["metadata"])


class ConversationReading:
    """One pass over a source: iterate for its conversations; the counts are whole when the pass is over.

    `formats` counts records by what they were recognised as; `files` says what each file was detected to be.
    """

    def __init__(self, config: InstructSourceConfig, base: Path, spool_folder: Path | None = None) -> None:
        self.config = config
        self._found: Found = find_files(config.path, base)
        self._spool_folder = spool_folder or Path(tempfile.gettempdir())
        self._begin()

    def _begin(self) -> None:
        self.accepted = self.trimmed_turns = 0
        self.rejected: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.files: dict[str, str] = {}
        self.samples: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Conversation]:
        """Conversations in the order of files (by name) and records. Raises DataError when there is none."""
        self._begin()
        for file in self._found.files:
            reading = Reading(file, self._as_source(), self._spool_folder)
            for row in reading.rows():
                if reading.detected and reading.detected.format not in READ_FORMATS:
                    self._reject(f"{reading.detected.format} file: give JSON lines or JSON", 1, file.name)
                    break
                if not isinstance(row, Row):
                    self._reject(row.reason, row.records, f"{file.name}:{row.number} {row.sample}")
                elif conversation := self._conversation(row, file.name):
                    self.accepted += 1
                    yield conversation
            self.files[file.name] = str(reading.detected or "not readable")
        self._say()

    def _as_source(self) -> SourceConfig:
        """How corpus.readers is to read the files.

        A JSON object around the records (`{"data": [...]}`) is unwrapped unless it has the field named here, so that a
        file of one conversation is not taken for a list of messages.
        """
        config = self.config
        field_name = FORMATS["messages" if config.format == "auto" else config.format].marker
        limit = config.max_conversation_bytes
        return SourceConfig(name=config.name, path=config.path, text_field=field_name, max_document_bytes=limit)

    def _conversation(self, row: Row, file_name: str) -> Conversation | None:
        try:
            name = self._format_of(row.values)
            turns = FORMATS[name].turns(row.values)
            check_order(turns)
            trimmed = [Turn(turn.role, encodable(turn.text.strip())) for turn in turns]
        except Refused as refused:
            self._reject(refused.reason, 1, f"{file_name}:{row.number} {refused.detail}".rstrip())
            return None
        self.formats[name] += 1
        self.trimmed_turns += sum(before.text != after.text for before, after in zip(turns, trimmed))
        metadata = {k: v for k, v in row.values.items() if k not in FORMATS[name].keys and _is_plain(v)}
        where = f"{file_name}/{row.member}" if row.member else file_name
        return Conversation(f"{where}:{row.number}", tuple(trimmed), self.config.name, metadata)

    def _format_of(self, values: Mapping[str, Any]) -> str:
        if self.config.format != "auto":
            if FORMATS[self.config.format].marker not in values:
                _refuse_format(values, f"no {FORMATS[self.config.format].marker}")
            return self.config.format
        name = next((name for name, known in FORMATS.items() if known.marker in values), None)
        return name or _refuse_format(values, "unknown format: none of messages, conversations, instruction")

    def _reject(self, reason: str, records: int, sample: str) -> None:
        self.rejected[reason] += records
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append(sample[:200])

    def _say(self) -> None:
        """Log what was found; nothing at all is an error."""
        name, rejected = self.config.name, sum(self.rejected.values())
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.rejected.most_common(3))
        if not self.accepted:
            raise DataError(
                f"{self.config.path[-60:]}: no conversation of '{name}' can be used, {rejected} rejected: "
                f"{reasons[:60]}; give records of messages or instruction/output",
                details=[sample for samples in self.samples.values() for sample in samples],
            )
        kinds = ", ".join(sorted(self.formats))
        files = ", ".join(sorted(set(self.files.values())))
        logger.info(f"{name}: {self.accepted} conversations ({kinds}) from {_count(len(self.files), 'file')} ({files})")
        if rejected:
            sample = next(iter(self.samples.values()))[0]
            logger.warning(f"{name}: {_count(rejected, 'record')} rejected: {reasons}; for example {sample}")

    def account(self) -> dict[str, Any]:
        """Account of the pass: total = accepted + the sum of rejected."""
        return {
            "total": self.accepted + sum(self.rejected.values()),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "rejected_samples": self.samples,
            "trimmed_turns": self.trimmed_turns,
            "formats": dict(sorted(self.formats.items())),
            "files": self.files,
            "skipped_files": {skipped.name: skipped.reason for skipped in self._found.skipped},
        }


def read_conversations(
    config: InstructSourceConfig, base: Path, spool_folder: Path | None = None
) -> ConversationReading:
    """Conversations of a source, streamed, with an account of what was rejected and why (`account()`).

    `base` is the folder that a relative path may start from; large compressed files are unpacked in `spool_folder` (the
    system's temporary folder when None). Raises DataError when no file is there; iterating raises it when no record of
    the source is a conversation.
    """
    return ConversationReading(config, base, spool_folder)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refuse_format(values: Mapping[str, Any], reason: str) -> NoReturn:
    raise Refused(reason, f"found: {', '.join(str(key)[:20] for key in list(values)[:6])}")


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def instruct_identity(config: InstructSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_files(config.path, base).files}
    settings = config.model_dump(mode="json", exclude={"path"})
    return {**settings, "files": files}
