"""One pass over the files of a source: each record becomes an item or is rejected with a reason, and all are counted.

    file --corpus.reading--> record --item()--> item | Refused(reason)

Invariant: total = accepted + rejected.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from groundup.corpus.reading.files import Found
from groundup.corpus.reading.readers import Reading, SourceConfig
from groundup.corpus.reading.records import Row
from groundup.errors import DataError
from groundup.log import logger

SAMPLES_PER_REASON = 3
Item = TypeVar("Item")


class Refused(Exception):
    """A record that is not what is wanted: `reason` is counted, `detail` shown."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, str(detail)[:80]


class RecordReading(Generic[Item]):
    """Iterate for the items; the counts are whole when the pass is over. A second pass counts anew.

    `files` says what each file was detected to be.
    """

    plural = "records"
    """What the items are called."""
    remedy = ""
    """What to do when no record is one."""
    read_formats: tuple[str, ...] = ()
    """Formats of files of records, where others are refused; empty: all are read."""

    def __init__(self, name: str, source: SourceConfig, found: Found, spool_folder: Path | None = None) -> None:
        self.name, self._source, self._found = name, source, found
        self._spool_folder = spool_folder or Path(tempfile.gettempdir())
        self.begin()

    def begin(self) -> None:
        """Set all counts to nothing."""
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}
        self.files: dict[str, str] = {}

    def item(self, row: Row, file_name: str) -> Item:
        """What a record says. Raises Refused."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Item]:
        """Items in the order of files (by name) and records. Raises DataError when there is none."""
        self.begin()
        for file in self._found.files:
            reading = Reading(file, self._source, self._spool_folder)
            for row in reading.rows():
                if self.read_formats and reading.detected and reading.detected.format not in self.read_formats:
                    self._reject(
                        f"{reading.detected.format} file: give JSON lines, JSON, CSV, Parquet or Arrow", 1, file.name
                    )
                    break
                if not isinstance(row, Row):
                    self._reject(row.reason, row.records, f"{file.name}:{row.number} {row.sample}")
                    continue
                try:
                    found = self.item(row, file.name)
                except Refused as refused:
                    self._reject(refused.reason, 1, f"{file.name}:{row.number} {refused.detail}".rstrip())
                    continue
                self.accepted += 1
                yield found
            self.files[file.name] = str(reading.detected or "not readable")
        self._say()

    def _reject(self, reason: str, records: int, sample: str) -> None:
        self.rejected[reason] += records
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append(sample[:200])

    def _say(self) -> None:
        """Log what was found; nothing at all is an error."""
        rejected = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.rejected.most_common(3))
        if not self.accepted:
            raise DataError(
                f"{self._source.paths[0][-60:]}: no record of '{self.name}' can be used, {rejected} rejected: "
                f"{reasons[:60]}; {self.remedy}",
                details=[sample for samples in self.samples.values() for sample in samples],
            )
        logger.info(f"{self.name}: {self.accepted} {self.plural}{self.about()}")
        if rejected:
            sample = next(iter(self.samples.values()))[0]
            logger.warning(f"{self.name}: {counted(rejected, 'record')} rejected: {reasons}; for example {sample}")

    def about(self) -> str:
        """What the log says of the items beside their number."""
        files = ", ".join(sorted(set(self.files.values())))
        return f" from {counted(len(self.files), 'file')} ({files})"

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


def truth_of(value: object) -> bool | None:
    """Whether a value says yes (true, 1) or no (false, 0), in a table as a text; None: neither."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def counted(number: int, noun: str) -> str:
    """`1 record`, `2 records`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
