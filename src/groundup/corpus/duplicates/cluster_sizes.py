"""Duplicates -> how many clusters there are of each size, per source of the document that is kept.

The size for `exact` is 1 + the exact duplicates that the cluster's kept document stands for, for `near` 1 + the near
ones, for `all` 1 + both; clusters of one are not counted.

Invariant: sizes less one, added up, give the duplicates that were counted; what a task tells does not grow with the
documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.duplicates.hashing import unmixed
from groundup.corpus.duplicates.steps import Step, Steps, Task, Writers
from groundup.corpus.segments import Store

KINDS = ("exact", "near", "all")
MEMBER_OF = np.dtype([("key", "<u8"), ("near", "u1"), ("count", "<u4")])
"""So many duplicates under the document (mixed) that is kept for them; whether they are near."""

Sizes = dict[str, dict[int, Counter[int]]]
"""Kind -> position of a source -> clusters by size."""


def count_clusters(steps: Steps, members: list[Path]) -> Sizes:
    """Sizes of the clusters, from their members (dtype MEMBER_OF)."""
    sizes: Sizes = {kind: {} for kind in KINDS}
    for stats in steps.by_key("sizes", _SIZES, members).stats:
        for kind in KINDS:
            for source, by_size in stats[kind].items():
                mine = sizes[kind].setdefault(int(source), Counter())
                mine.update({int(size): count for size, count in by_size.items()})
    return sizes


def together(sizes: Sizes, kind: str) -> Counter[int]:
    """Clusters by size, over all sources."""
    counts: Counter[int] = Counter()
    for by_size in sizes[kind].values():
        counts.update(by_size)
    return counts


def sizes_by_source(sizes: Sizes) -> dict[int, dict[str, dict[str, int]]]:
    """Position of a source -> kind -> clusters by size in powers of two."""
    sources = sorted({source for mine in sizes.values() for source in mine})
    return {source: {kind: by_powers(sizes[kind].get(source, {})) for kind in KINDS} for source in sources}


def by_powers(counts: Mapping[int, int]) -> dict[str, int]:
    """Clusters by size, in powers of two: "2", "3-4", "5-8" and so on."""
    powers: Counter[int] = Counter()
    for size, count in counts.items():
        powers[(size - 1).bit_length()] += count
    return {
        "2" if power == 1 else f"{2 ** (power - 1) + 1}-{2**power}": count for power, count in sorted(powers.items())
    }


def merged(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of histograms that `by_powers` made."""
    counts: Counter[str] = Counter()
    for histogram in histograms:
        counts.update(histogram)
    return dict(sorted(counts.items(), key=lambda item: int(item[0].partition("-")[0])))


def _sizes(task: Task, writers: Writers) -> dict[str, Any]:
    """Members of clusters -> kind -> source -> clusters by size."""
    told: Sizes = {kind: {} for kind in KINDS}
    for found in task.ranges():
        exact: Counter[int] = Counter()
        near: Counter[int] = Counter()
        for piece in found.pieces():
            _count(piece[piece["near"] == 0], exact)
            _count(piece[piece["near"] == 1], near)
        for kind, per_kept in (("exact", exact), ("near", near), ("all", exact + near)):
            _add_sizes(per_kept, task.store, told[kind])
    return {
        kind: {
            str(source): {str(size): count for size, count in sorted(counts.items())}
            for source, counts in sorted(sources.items())
        }
        for kind, sources in told.items()
    }


def _count(members: NDArray[Any], per_kept: Counter[int]) -> None:
    kept, owners = np.unique(members["key"], return_inverse=True)
    counts = np.bincount(owners, weights=members["count"], minlength=len(kept)).astype(np.int64)
    per_kept.update(dict(zip(kept.tolist(), counts.tolist())))


def _add_sizes(per_kept: Counter[int], store: Store, sources: dict[int, Counter[int]]) -> None:
    kept = unmixed(np.fromiter(per_kept, dtype=np.uint64, count=len(per_kept)))
    for source, duplicates in zip(store.sources(kept).tolist(), per_kept.values()):
        sources.setdefault(source, Counter())[duplicates + 1] += 1


_SIZES = Step(_sizes, MEMBER_OF, {})
