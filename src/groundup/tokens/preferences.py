"""Files of preferences -> Preference, each record accepted or rejected with a reason; see `preference_formats`.

Invariant: total = accepted + rejected; nothing is repaired but that white space around a turn is cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.hub import find_source
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig
from groundup.stage import hash_file
from groundup.tokens.preference_fields import PreferenceFieldsConfig, mapped
from groundup.tokens.preference_formats import Preference, preference_of
from groundup.tokens.record_reading import RecordReading, Refused

KNOWN_KEYS = ("chosen", "rejected", "label", "kto_tag")
"""A JSON object around the records is unwrapped unless it has one of these."""


class PreferenceSourceConfig(Config):
    """Where preferences lie and how to read them."""

    name: Name
    """Name of the source in reports and losses."""
    path: LocalPath
    """A file, a folder (a Hugging Face dataset too) or a glob; absolute, or relative to the current folder, or to the
    recipe."""
    format: Literal["pairs", "judged"] = "pairs"
    """`pairs`: a better and a worse answer to each prompt; `judged`: single answers that are good or bad, for KTO."""
    overlong: Literal["drop", "truncate"] = "drop"
    """A pair that does not fit into a row of the context is dropped, or its answers are cut at their ends; counted."""
    max_record_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""
    dataset_config: str = ""
    """Configuration of a Hugging Face dataset with several."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset that has splits; `all` for every one."""
    fields: PreferenceFieldsConfig = PreferenceFieldsConfig()
    """Which fields of a record hold what is asked and answered, where they have other names than usual."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.fields.chosen and self.format == "judged":
            raise ValueError("fields name a pair of answers; leave format: judged out")
        if self.fields.completion and self.format == "pairs":
            raise ValueError("fields name a judged answer; set format: judged")
        return self


class PreferenceReading(RecordReading[Preference]):
    """One pass over a source: iterate for its preferences; the counts are whole when the pass is over."""

    plural, remedy = "preferences", "give prompt, chosen and rejected, or name the fields by `fields`"

    def __init__(self, config: PreferenceSourceConfig, base: Path) -> None:
        self.config = config
        source = _as_source(config)
        super().__init__(config.name, source, find_source(source, base))

    def item(self, row: Row, file_name: str) -> Preference:
        """The preference that a record holds. Raises Refused."""
        found = preference_of(mapped(row.values, self.config.fields))
        is_pair = found.chosen is not None and found.rejected is not None
        if is_pair != (self.config.format == "pairs"):
            raise Refused("a pair of answers: set format: pairs" if is_pair else "one answer: set format: judged")
        return found


def _as_source(config: PreferenceSourceConfig) -> RecordSourceConfig:
    """How corpus.reading is to read the files: whole records, known by the fields of the recipe or the usual ones."""
    return RecordSourceConfig(
        name=config.name,
        path=config.path,
        known_keys=config.fields.outer or KNOWN_KEYS,
        dataset_config=config.dataset_config,
        dataset_split=config.dataset_split,
        max_document_bytes=config.max_record_bytes,
    )


def preference_source_identity(config: PreferenceSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_source(_as_source(config), base).files}
    return {**config.model_dump(mode="json", exclude={"path"}), "files": files}
