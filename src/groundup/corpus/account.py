"""What became of every record: counts that must add up, per file, per source and in all, with a few samples.

    total  = loaded + rejected{reason}
    loaded = kept + filtered{reason} + duplicates{exact, near} + contaminated

Invariant: `Account.check` raises when one of the two sums is off, and nothing is reported that was not checked.
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
class Account:
    """Counts of records."""

    total: int = 0
    loaded: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    filtered: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=lambda: {"exact": 0, "near": 0})
    contaminated: int = 0

    def reject(self, reason: str, records: int = 1) -> None:
        """`records` records that could not be read."""
        self.total += records
        _count(self.rejected, reason, records)

    def load(self) -> None:
        """One record that became a document."""
        self.total += 1
        self.loaded += 1

    def filter(self, reason: str) -> None:
        """One loaded document that a filter dropped."""
        _count(self.filtered, reason)

    def add(self, other: Account) -> None:
        """Add the counts of `other`."""
        self.total += other.total
        self.loaded += other.loaded
        self.kept += other.kept
        self.contaminated += other.contaminated
        for mine, theirs in (
            (self.rejected, other.rejected),
            (self.filtered, other.filtered),
            (self.duplicates, other.duplicates),
        ):
            for reason, amount in theirs.items():
                _count(mine, reason, amount)

    def check(self, what: str) -> None:
        """Raise AssertionError, naming `what`, when the account does not add up."""
        dropped = sum(self.filtered.values()) + sum(self.duplicates.values()) + self.contaminated
        if self.total != self.loaded + sum(self.rejected.values()) or self.loaded != self.kept + dropped:
            raise AssertionError(f"the account of {what} does not add up: {self}")

    def to_json(self) -> dict[str, Any]:
        """Counts with reasons in a fixed order."""
        return {
            "total": self.total,
            "loaded": self.loaded,
            "rejected": dict(sorted(self.rejected.items())),
            "kept": self.kept,
            "filtered": dict(sorted(self.filtered.items())),
            "duplicates": dict(self.duplicates),
            "contaminated": self.contaminated,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Account:
        """The account that `to_json` wrote; other keys are ignored."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


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
