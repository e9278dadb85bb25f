"""Files of conversations -> Conversation, each record accepted or rejected with a reason.

    file --corpus.reading--> record --fields--> record --FORMATS--> turns --order of roles--> Conversation | reason

Files are read as every corpus is: JSON lines, JSON, CSV, TSV, Parquet, Arrow, plain, compressed or in an archive, and
folders of Hugging Face datasets, of which no loading script is ever run. Formats of records: `conversation_formats.py`;
each record is recognised by itself.

Invariant: total = accepted + rejected; nothing is repaired but that white space around a turn is cut off, which is
counted, as the template does not carry it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.hub import find_source
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig
from groundup.stage import hash_file
from groundup.tokens.conversation_fields import ConversationFieldsConfig, mapped
from groundup.tokens.conversation_formats import FORMATS, check_order, encodable, recognised, require_marker
from groundup.tokens.conversation_length import Overlong
from groundup.tokens.conversation_messages import Rules, definitions_of, with_definitions
from groundup.tokens.record_reading import RecordReading
from groundup.tokens.template import TOOL, Turn

SAMPLES_PER_REASON = 3
READ_FORMATS = ("jsonl", "json", "csv", "parquet", "arrow")
KNOWN_KEYS = (*(known.marker for known in FORMATS.values()), "chosen")
"""Fields by which a record of conversations is known in a file that wraps its records."""
COLUMNS_COUNTED = 100
_LATER: Mapping[str, object] = {
    "dataset_config": "",
    "dataset_split": "train",
    "fields": ConversationFieldsConfig().model_dump(mode="json"),
    "roles": {},
    "tools": "refuse",
}
"""Fields that came later, and what they are when nothing is said: then they leave the identity as it was."""

FormatName = Literal["auto", "alpaca", "messages", "prompt_completion", "question_answer", "sharegpt"]


class InstructSourceConfig(Config):
    """Where conversations lie and how to read them."""

    name: Name
    """Name of the source in reports and losses."""
    path: LocalPath
    """A file, a folder (a Hugging Face dataset too) or a glob; absolute, or relative to the current folder, or to the
    recipe."""
    format: FormatName = "auto"
    """`auto`: each record is recognised by its keys."""
    overlong: Overlong = "drop"
    """A conversation longer than the context is dropped, cut at its end, or loses its last turns until it fits (and is
    dropped where even its first answer does not); all are counted."""
    max_conversation_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""
    dataset_config: str = ""
    """Configuration of a Hugging Face dataset with several."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset that has splits; `all` for every one."""
    fields: ConversationFieldsConfig = ConversationFieldsConfig()
    """Which fields of a record hold what is said, where they have other names than usual."""
    roles: dict[str, Literal["system", "user", "assistant", "tool"]] = Field(default_factory=dict)
    """Names of speakers beside the usual ones, such as `{Human: user, Bot: assistant}`."""
    tools: Literal["refuse", "keep"] = "refuse"
    """Conversations with tools are refused by name, or kept: a call is learnt as lines of JSON, what a tool answers is
    a turn of the role `tool`, and the tools on offer stand at the end of the system turn."""

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.fields.format and self.format != "auto":
            raise ValueError("fields say what the records are; leave format out")
        return self


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


class ConversationReading(RecordReading[Conversation]):
    """One pass over a source: iterate for its conversations; the counts are whole when the pass is over.

    `formats` counts records by what they were recognised as; `columns` the fields that are no part of the conversation.
    """

    plural, remedy = "conversations", "name the fields by `fields`"
    read_formats = READ_FORMATS

    def __init__(self, config: InstructSourceConfig, base: Path, spool_folder: Path | None = None) -> None:
        self.config = config
        self._rules = Rules(config.roles, config.tools == "keep")
        source = as_source(config)
        super().__init__(config.name, source, find_source(source, base), spool_folder)

    def begin(self) -> None:
        """Set all counts to nothing."""
        super().begin()
        self.trimmed_turns = self.tool_turns = 0
        self.formats: Counter[str] = Counter()
        self.columns: Counter[str] = Counter()

    def item(self, row: Row, file_name: str) -> Conversation:
        """The conversation that a record holds. Raises Refused."""
        name, turns, used = self._turns(row.values)
        check_order(turns)
        trimmed = [Turn(turn.role, encodable(turn.text.strip())) for turn in turns]
        self.formats[name] += 1
        self.tool_turns += sum(turn.role == TOOL for turn in turns)
        self.trimmed_turns += sum(before.text != after.text for before, after in zip(turns, trimmed))
        beside = [key for key in row.values if key not in used]
        self.columns.update(
            key for key in map(str, beside) if key in self.columns or len(self.columns) < COLUMNS_COUNTED
        )
        metadata = {key: row.values[key] for key in beside if _is_plain(row.values[key])}
        where = f"{file_name}/{row.member}" if row.member else file_name
        return Conversation(f"{where}:{row.number}", tuple(trimmed), self.config.name, metadata)

    def _turns(self, values: Mapping[str, Any]) -> tuple[str, list[Turn], frozenset[str]]:
        """(format, turns, keys of the record that were read). Raises Refused."""
        config = self.config
        if config.fields.format:
            values, used = mapped(values, config.fields)
            name = config.fields.format
        elif config.format != "auto":
            require_marker(values, config.format)
            name, used = config.format, FORMATS[config.format].read(values)
        else:
            name, known = recognised(values)
            used = FORMATS[name].read(known)
            if known is not values:
                used = frozenset(key for key in values if str(key).strip().lower() in used)
                values = known
        tools = definitions_of(values, self._rules) if "tools" in FORMATS[name].read(values) else []
        return name, with_definitions(FORMATS[name].turns(values, self._rules), tools), used

    def about(self) -> str:
        """Formats of records and files."""
        return f" ({', '.join(sorted(self.formats))}){super().about()}"

    def account(self) -> dict[str, Any]:
        """Account of the pass: total = accepted + the sum of rejected."""
        return {
            **super().account(),
            "trimmed_turns": self.trimmed_turns,
            "tool_turns": self.tool_turns,
            "formats": dict(sorted(self.formats.items())),
            "columns": dict(sorted(self.columns.items())),
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


def as_source(config: InstructSourceConfig) -> RecordSourceConfig:
    """How corpus.reading is to read the files: whole records, known by the fields of the recipe or of the formats.

    A JSON object around the records (`{"data": [...]}`) is unwrapped unless it has one of these fields, so that a file
    of one conversation is not taken for a list of messages.
    """
    named = () if config.format == "auto" else (FORMATS[config.format].marker,)
    return RecordSourceConfig(
        name=config.name,
        path=config.path,
        known_keys=config.fields.outer or named or KNOWN_KEYS,
        dataset_config=config.dataset_config,
        dataset_split=config.dataset_split,
        max_document_bytes=config.max_conversation_bytes,
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def instruct_identity(config: InstructSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_source(as_source(config), base).files}
    settings = config.model_dump(mode="json", exclude={"path"})
    for name, usual in _LATER.items():
        if settings[name] == usual:
            del settings[name]
    return {**settings, "files": files}
