"""Files of preferences -> Preference, each record accepted or rejected with a reason; see `preference_formats`.

Invariant: total = accepted + rejected; nothing is repaired but that white space around a turn is cut off.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
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
from groundup.tokens.conversation_messages import Refused
from groundup.tokens.preference_formats import Preference, preference_of

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
    path: str
    """A file, a folder or a glob; absolute, or relative to the current folder, or to the recipe."""
    format: Literal["pairs", "judged"] = "pairs"
    """`pairs`: a better and a worse answer to each prompt; `judged`: single answers that are good or bad, for KTO."""
    overlong: Literal["drop", "truncate"] = "drop"
    """A pair that does not fit into a row of the context is dropped, or its answers are cut at their ends; counted."""
    max_record_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer records are rejected before they are parsed."""

    @field_validator("path")
    @classmethod
    def _local(cls, path: str) -> str:
        if not path or "\0" in path or "://" in path:
            raise ValueError("must name a local file, a folder or a glob; download data first")
        return path


class PreferenceReading:
    """One pass over a source: iterate for its preferences; the counts are whole when the pass is over."""

    def __init__(self, config: PreferenceSourceConfig, base: Path) -> None:
        self.config = config
        self._found = find_files(config.path, base)
        self._begin()

    def _begin(self) -> None:
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}
        self.files: dict[str, str] = {}

    def __iter__(self) -> Iterator[Preference]:
        """Preferences in the order of files (by name) and records. Raises DataError when there is none."""
        self._begin()
        for file in self._found.files:
            reading = Reading(file, self._as_source(), Path(tempfile.gettempdir()))
            for row in reading.rows():
                if not isinstance(row, Row):
                    self._reject(row.reason, row.records, f"{file.name}:{row.number} {row.sample}")
                    continue
                try:
                    found = self._preference(row)
                except Refused as refused:
                    self._reject(refused.reason, 1, f"{file.name}:{row.number} {refused.detail}".rstrip())
                    continue
                self.accepted += 1
                yield found
            self.files[file.name] = str(reading.detected or "not readable")
        self._say()

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

    def _preference(self, row: Row) -> Preference:
        found = preference_of(row.values)
        is_pair = found.chosen is not None and found.rejected is not None
        if is_pair != (self.config.format == "pairs"):
            raise Refused("a pair of answers: set format: pairs" if is_pair else "one answer: set format: judged")
        return found

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
                f"{self.config.path[-60:]}: none of {rejected} records is a preference: {reasons[:50]};"
                " give prompt, chosen and rejected",
                details=[sample for samples in self.samples.values() for sample in samples],
            )
        logger.info(f"{name}: {self.accepted} preferences, {rejected} records rejected")
        if rejected:
            sample = next(iter(self.samples.values()))[0]
            logger.warning(f"{name}: {rejected} rejected: {reasons}; for example {sample}")

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


def preference_source_identity(config: PreferenceSourceConfig, base: Path) -> dict[str, Any]:
    """What of a source changes the result: its settings, and the names and SHA-256 of its files instead of its path."""
    files = {file.name: hash_file(file.path) for file in find_files(config.path, base).files}
    return {**config.model_dump(mode="json", exclude={"path"}), "files": files}
