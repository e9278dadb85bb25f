"""Files of a task -> its records, each with where it stands; what cannot be read is counted with its reason.

Invariant: total = accepted + rejected, in every pass; a record has the same id here and where its text is looked for in
the training text (`corpus.contamination`).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading, SourceConfig
from groundup.corpus.reading.records import Row

SAMPLES_PER_REASON = 3
RECORD_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in its file. `id` is `<file>:<number>`."""

    id: str
    values: Mapping[str, Any]


class Account:
    """What became of the records of a task in one pass."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}

    def reject(self, reason: str, where: str, records: int = 1) -> None:
        """Count records that cannot be asked."""
        self.rejected[reason] += records
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append(where[:200])

    def as_dict(self) -> dict[str, Any]:
        """total = accepted + the sum of rejected."""
        return {
            "total": self.accepted + self.rejected.total(),
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "rejected_samples": self.samples,
        }

    def reasons(self) -> str:
        """The most frequent reasons, in words."""
        return ", ".join(f"{reason} ({count})" for reason, count in self.rejected.most_common(3))


def read_records(path: str, fields: tuple[str, ...], optional: tuple[str, ...], account: Account) -> Iterator[Record]:
    """Every record of the files that `path` means, in order; what is none goes into `account`.

    `fields` are needed, so that a table without them says so; `optional` ones are read where they are there. Raises
    DataError when nothing is there.
    """
    template = " ".join("{" + name + "}" for name in fields)
    source = SourceConfig(
        name="task",
        path=path,
        text_template=template,
        metadata_fields=optional,
        max_document_bytes=RECORD_LIMIT_BYTES,
    )
    for file in find_files(path, Path.cwd()).files:
        for row in Reading(file, source, Path(tempfile.gettempdir())).rows():
            if isinstance(row, Row):
                yield Record(f"{file.name}:{row.number}", row.values)
            else:
                account.reject(row.reason, f"{file.name}:{row.number} {row.sample}", row.records)
