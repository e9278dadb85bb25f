"""What augmentation added, in the report: counts of the segments' shards -> per method and source, and in the splits.

Invariant: documents of the splits are `kept` and what `added` counts, in all and for each source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from groundup.corpus.augment import Added
from groundup.corpus.documents import SPLITS


def with_added(
    report: Mapping[str, Any], owners: Sequence[str], written: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The report with the documents that augmentation added: in `added`, and in the sizes of the train splits.

    `owners`: the name of the source of each segment, whose shards are told in `written`.
    """
    sources = {name: _Sums() for name in report["sources"]}
    for owner, result in zip(owners, written):
        for method, counts in result["added"].items():
            sources[owner].add(method, counts)
    total = _Sums()
    for sums in sources.values():
        for method, added in sums.methods.items():
            total.add(method, asdict(added))
    return {
        **report,
        "added": total.to_json(),
        "splits": total.with_train(report["splits"]),
        "sources": {
            name: {**source, "splits": sources[name].with_train(source["splits"]), "added": sources[name].to_json()}
            for name, source in report["sources"].items()
        },
    }


class _Sums:
    """Sums of what each method of augmentation added."""

    def __init__(self) -> None:
        self.methods: dict[str, Added] = {}

    def add(self, method: str, counts: Mapping[str, Any]) -> None:
        """One segment's counts of a method."""
        self.methods.setdefault(method, Added()).add(Added(**counts))

    def to_json(self) -> dict[str, Any]:
        """method -> its counts."""
        return {name: asdict(added) for name, added in sorted(self.methods.items())}

    def with_train(self, splits: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """Sizes of the splits with what was added to the first, train."""
        added = self.methods.values()
        train = {unit: size + sum(getattr(one, unit) for one in added) for unit, size in splits[SPLITS[0]].items()}
        return {**splits, SPLITS[0]: train}
