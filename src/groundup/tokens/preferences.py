"""Files of preferences -> Preference, each record accepted or rejected with a reason; see `preference_formats`.

Invariant: total = accepted + rejected; nothing is repaired but that white space around a turn is cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import SourceConfig
from groundup.corpus.reading.records import Row
from groundup.stage import hash_file
from groundup.tokens.preference_formats import Preference, preference_of
from groundup.tokens.record_reading import RecordReading, Refused

SAMPLES_PER_REASON = 3
_MARKERS = {"pairs": "chosen", "judged": "label"}
_FIELDS = (
    *("prompt", "chosen", "rejected", "completion", "label", "kto_tag", "messages", "conversations"),
    *("instruction", "input", "history", "system"),
)


class PreferenceSourceConfig(Config):
    """Where preferences lie and how to read them."""

    name: Name
    """Name of the source in reports and losses."""
    path: LocalPath
    """A file, a folder or a glob; absolute, or relative to the current folder, or to the recipe."""
    format: Literal["pairs", "judged"] = "pairs"
    """`pairs`: a better and a worse answer to each prompt; `judged`: single answers that are good or bad, for KTO."""
    overlong: Literal["drop", "truncate"] = "drop"
    """A pair that does not fit into a row of the context is dropped, or its answers are cut at their ends; counted."""
    max_record_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""


class PreferenceReading(RecordReading[Preference]):
    """One pass over a source: iterate for its preferences; the counts are whole when the pass is over."""

    plural, remedy = "preferences", "give prompt, chosen and rejected"

    def __init__(self, config: PreferenceSourceConfig, base: Path) -> None:
        self.config = config
        super().__init__(config.name, self._as_source(), find_files(config.path, base))

    def _as_source(self) -> SourceConfig:
        """How corpus.reading is to read the files: a record has the marker, and of a table all known columns count."""
        config = self.config
        return SourceConfig(
            name=config.name,
            path=config.path,
            text_template="{" + _MARKERS[config.format] + "}",
            metadata_fields=_FIELDS,
            max_document_bytes=config.max_record_bytes,
        )

    def item(self, row: Row, file_name: str) -> Preference:
        """The preference that a record holds. Raises Refused."""
        found = preference_of(row.values)
        is_pair = found.chosen is not None and found.rejected is not None
        if is_pair != (self.config.format == "pairs"):
            raise Refused("a pair of answers: set format: pairs" if is_pair else "one answer: set format: judged")
        return found


def preference_source_identity(config: PreferenceSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_files(config.path, base).files}
    return {**config.model_dump(mode="json", exclude={"path"}), "files": files}
