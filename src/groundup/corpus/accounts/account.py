"""What became of every record: counts that must add up, per file, per source and in all, with a few samples.

    total  = loaded + rejected{reason}
    loaded = kept + filtered{reason} + duplicates{exact, near} + contaminated

The second line holds for documents and for the bytes of their raw text. A record that could not be read has no text, so
it is counted as a record only.

Invariant: `Account.check` raises when one of the sums is off, and nothing is reported that was not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from groundup.errors import printable

SAMPLE_LIMIT = 3
EXCERPT_CHARACTERS = 120


def _count(counts: dict[str, int], reason: str, amount: int = 1) -> None:
    if amount:
        counts[reason] = counts.get(reason, 0) + amount


@dataclass
class Outcomes:
    """What became of what was loaded, in some unit: loaded = kept + filtered + duplicates + contaminated."""

    loaded: int = 0
    kept: int = 0
    filtered: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=lambda: {"exact": 0, "near": 0})
    contaminated: int = 0

    def add_outcomes(self, other: Outcomes) -> None:
        """Add those of `other`."""
        self.loaded += other.loaded
        self.kept += other.kept
        self.contaminated += other.contaminated
        for mine, theirs in ((self.filtered, other.filtered), (self.duplicates, other.duplicates)):
            for reason, amount in theirs.items():
                _count(mine, reason, amount)

    @property
    def adds_up(self) -> bool:
        """Whether nothing was lost or counted twice."""
        dropped = sum(self.filtered.values()) + sum(self.duplicates.values()) + self.contaminated
        return self.loaded == self.kept + dropped

    def outcomes_json(self) -> dict[str, Any]:
        """The numbers with reasons in a fixed order."""
        return {
            "loaded": self.loaded,
            "kept": self.kept,
            "filtered": dict(sorted(self.filtered.items())),
            "duplicates": dict(self.duplicates),
            "contaminated": self.contaminated,
        }


@dataclass
class Account(Outcomes):
    """Counts of records, and of the UTF-8 bytes of the raw text of those that could be read."""

    total: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    bytes: Outcomes = field(default_factory=Outcomes)

    def reject(self, reason: str, records: int = 1) -> None:
        """`records` records that could not be read."""
        self.total += records
        _count(self.rejected, reason, records)

    def load(self, size_bytes: int = 0) -> None:
        """One record that became a document."""
        self.total += 1
        self.loaded += 1
        self.bytes.loaded += size_bytes

    def filter(self, reason: str, size_bytes: int = 0) -> None:
        """One loaded document that a filter dropped."""
        _count(self.filtered, reason)
        _count(self.bytes.filtered, reason, size_bytes)

    def contaminate(self, size_bytes: int = 0) -> None:
        """One loaded document that holds a text of an evaluation set."""
        self.contaminated += 1
        self.bytes.contaminated += size_bytes

    def keep(self, documents: int, size_bytes: int) -> None:
        """Loaded documents that stay."""
        self.kept += documents
        self.bytes.kept += size_bytes

    def drop_duplicates(self, kind: str, documents: int, size_bytes: int) -> None:
        """Loaded documents that are duplicates of a `kind`, exact or near."""
        _count(self.duplicates, kind, documents)
        _count(self.bytes.duplicates, kind, size_bytes)

    def add(self, other: Account) -> None:
        """Add the counts of `other`."""
        self.total += other.total
        for reason, amount in other.rejected.items():
            _count(self.rejected, reason, amount)
        self.add_outcomes(other)
        self.bytes.add_outcomes(other.bytes)

    def check(self, what: str) -> None:
        """Raise AssertionError, naming `what`, when the account does not add up."""
        if self.total != self.loaded + sum(self.rejected.values()) or not (self.adds_up and self.bytes.adds_up):
            raise AssertionError(f"the account of {what} does not add up: {self}")

    def to_json(self) -> dict[str, Any]:
        """Counts with reasons in a fixed order."""
        outcomes = self.outcomes_json()
        return {
            "total": self.total,
            "loaded": outcomes.pop("loaded"),
            "rejected": dict(sorted(self.rejected.items())),
            **outcomes,
            "bytes": self.bytes.outcomes_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Account:
        """The account that `to_json` wrote; other keys are ignored."""
        counts = {name: values[name] for name in cls.__dataclass_fields__ if name != "bytes"}
        return cls(**counts, bytes=Outcomes(**values["bytes"]))


def summed(accounts: Iterable[Account]) -> Account:
    """The sum of accounts."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total


class Samples:
    """At most `limit` escaped examples for each way of being dropped, the first in order of files and records."""

    def __init__(
        self, values: Mapping[str, Mapping[str, list[dict[str, Any]]]] | None = None, limit: int = SAMPLE_LIMIT
    ) -> None:
        self.limit = limit
        self.values: dict[str, dict[str, list[dict[str, Any]]]] = {"rejected": {}, "filtered": {}, "duplicates": {}}
        if values:
            self.add_all(values)

    def wanted(self, kind: str, reason: str) -> bool:
        """Whether there is room for another example."""
        return len(self.values[kind].get(reason, ())) < self.limit

    def add(
        self,
        kind: str,
        reason: str,
        file: str,
        record: int,
        excerpt: str,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        """One example; `record` 0 means the whole file. `measured`: the value that decided, and its bound."""
        known = self.values[kind].setdefault(reason, [])
        if len(known) < self.limit:
            known.append({"file": file, "record": record, "excerpt": escaped(excerpt), **(measured or {})})

    def add_all(self, values: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
        """The examples of a later part."""
        for kind, reasons in values.items():
            for reason, examples in reasons.items():
                known = self.values[kind].setdefault(reason, [])
                known.extend(examples[: self.limit - len(known)])


def escaped(text: str) -> str:
    """A short piece of text in one line, control and bidi characters visible, always encodable."""
    shown = printable(text[:EXCERPT_CHARACTERS]).replace("\n", "\\n")
    return shown if len(text) <= EXCERPT_CHARACTERS else shown + "..."
