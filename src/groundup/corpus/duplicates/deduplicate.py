"""Documents of all segments -> which of them are duplicates, and of which document.

    exact.run of each segment --by hash--> exact duplicates
    the others --bands--> (band key, document) --by key--> pairs --by document--> edges (exact similarity)
                --components--> clusters --by cluster--> near-duplicates
    both --by kept document--> dropped: (document, kept, outcome)

Each arrow is a step: tasks over ranges of keys, in any number of processes, from sorted runs on disk to sorted runs on
disk (`runs.py`); a finished task is not done again after a kill. Invariant: the outcome depends on the texts and their
sides only, never on the order of files, on parts or workers; memory does not grow with the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.duplicates.cluster_sizes import MEMBER_OF, by_powers, count_clusters, sizes_by_source, together
from groundup.corpus.duplicates.components import EDGE, both_ways, checksum, large_star, small_star
from groundup.corpus.duplicates.groups import kept_of_groups
from groundup.corpus.duplicates.hashing import mixed, unmixed
from groundup.corpus.duplicates.near import band_records, pairs_in_buckets, pairs_in_large_bucket
from groundup.corpus.duplicates.runs import KEYS, KeyRange
from groundup.corpus.duplicates.shingle_store import ShingleSets, write_shingles
from groundup.corpus.duplicates.shingles import jaccard
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.duplicates.steps import OWN_FILES, Step, Steps, Task, Writers
from groundup.corpus.engines.engine import Engine
from groundup.corpus.engines.processes import HERE
from groundup.corpus.segments import EXACT_RUN, MEMBER, Segment, Store, borders_of_groups

KEPT, EXACT, NEAR = 0, 1, 2
"""What became of a document."""

DROPPED = np.dtype([("key", "<u8"), ("kept", "<u8"), ("outcome", "u1")])
"""A duplicate (by its document number) and the document that is kept for it."""
_LINK = np.dtype([("key", "<u8"), ("document", "<u8"), ("kept", "<u8"), ("outcome", "u1")])
_KEY = np.dtype([("key", "<u8")])
_PAIR_BATCH = 1 << 12


@dataclass(frozen=True)
class Duplicates:
    """The outcome over all documents."""

    dropped: tuple[Path, ...] = ()
    """Runs of DROPPED records; documents that are in none are kept."""
    clusters: int = 0
    """Kept documents with at least one duplicate."""
    largest_cluster: int = 1
    """Documents in the largest cluster, the kept one included."""
    cluster_sizes: dict[str, int] = field(default_factory=dict)
    """Clusters by size: "2", "3-4", "5-8" and so on."""
    sizes_by_source: dict[int, dict[str, dict[str, int]]] = field(default_factory=dict)
    """The same for each source (by its position) that documents are kept of, and each of `cluster_sizes.KINDS`."""
    counted: dict[str, int] = field(default_factory=dict)
    """Duplicates in the clusters, exact and near: what the account must have too."""
    unchecked: int = 0
    """Documents in buckets so large that not all pairs were compared (counted once a bucket)."""

    def of(self, segment: Segment) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """(outcome, kept document) of each row of a segment."""
        outcome = np.full(segment.rows, KEPT, dtype=np.uint8)
        kept = np.arange(segment.rows, dtype=np.uint64) + np.uint64(segment.first)
        for found in KeyRange.of(self.dropped, DROPPED, segment.first, segment.first + segment.rows).pieces():
            rows = (found["key"] - np.uint64(segment.first)).astype(np.int64)
            outcome[rows], kept[rows] = found["outcome"], found["kept"]
        return outcome, kept


def find_duplicates(
    segments: Sequence[Segment],
    config: DeduplicateConfig,
    folder: Path,
    engine: Engine = HERE,
) -> Duplicates:
    """Duplicates over all segments, found in `folder`, where finished tasks of an earlier attempt are used again.

    Memory a process: a few arrays of runs.RUN_RECORDS records or of one segment, at most about 300 MB.
    """
    steps = Steps(Store(tuple(segments)), config, folder, engine)
    exact = steps.by_key("exact", _EXACT, [segment.folder / EXACT_RUN for segment in segments])
    near: list[Path] = []
    unchecked = 0
    if config.near:
        bands = steps.by_segment("bands", _BANDS, exact["documents"])
        pairs = steps.by_key("pairs", _PAIRS, bands["bands"])
        unchecked = sum(stats["unchecked"] for stats in pairs.stats)
        steps.by_segment("shingles", _SHINGLES, pairs["documents"])
        edges = steps.by_key("edges", _EDGES, pairs["pairs"])
        near = steps.by_key("near", _NEAR, _stars(steps, edges["edges"]))["links"]
    dropped = steps.by_key("dropped", _DROPPED, [*exact["links"], *near])
    copies = steps.by_segment("copies", _COPIES, dropped["dropped"])
    sizes = count_clusters(steps, [*dropped["sizes"], *copies["sizes"]])
    every = together(sizes, "all")
    return Duplicates(
        tuple(steps.merged("outcomes", DROPPED, dropped["dropped"])),
        sum(every.values()),
        max(every, default=1),
        by_powers(every),
        sizes_by_source(sizes),
        {kind: sum((size - 1) * count for size, count in together(sizes, kind).items()) for kind in ("exact", "near")},
        unchecked,
    )


def _stars(steps: Steps, edges: list[Path]) -> list[Path]:
    """Alternate the two star steps until a round changes nothing."""
    state: tuple[int, int] | None = None
    for number in range(1 << 10):
        large = steps.by_key(f"large{number}", _LARGE_STAR, edges)
        small = steps.by_key(f"small{number}", _SMALL_STAR, large["edges"])
        before, state = state, (sum(s["edges"] for s in small.stats), sum(s["checksum"] for s in small.stats) % KEYS)
        edges = small["edges"]
        if state == before:
            return edges
    raise AssertionError("components do not converge")


def _exact(task: Task, writers: Writers) -> dict[str, Any]:
    """Members by hash of normal form -> links of exact duplicates, under the document that is kept."""
    for found in task.ranges():
        for members, kept in kept_of_groups(found.pieces):
            twice = kept != members["document"]
            documents = members["document"][twice]
            _link(writers["links"], mixed(kept[twice]), documents, kept[twice], EXACT)
            writers["documents"].write_columns(key=documents)
    return {}


def _link(writer: Any, keys: NDArray[Any], documents: NDArray[Any], kept: NDArray[Any], outcome: int) -> None:
    outcomes = np.full(len(keys), outcome, dtype=np.uint8)
    writer.write_columns(key=keys, document=documents, kept=kept, outcome=outcomes)


def _wanted(task: Task) -> NDArray[np.bool_]:
    """Which rows of the task's segment are named by its inputs."""
    named = np.zeros(task.segment.rows, dtype=bool)
    for keys in KeyRange.of(task.inputs, task.step.dtype, task.low, task.high).pieces():
        named[(keys["key"] - np.uint64(task.low)).astype(np.int64)] = True
    return named


def _bands(task: Task, writers: Writers) -> dict[str, Any]:
    """A segment -> (band key, document) of all its documents that have shingles and are no exact duplicates."""
    rows = np.flatnonzero(~_wanted(task) & (task.segment.read_rows()["shingles"] > 0))
    signatures = task.segment.read_signatures(task.config.num_perm)
    documents = rows.astype(np.uint64) + np.uint64(task.low)
    for start in range(0, len(rows), 1 << 14):
        block = slice(start, start + (1 << 14))
        keys, owners = band_records(documents[block], signatures[rows[block]], task.config.bands)
        writers["bands"].write_columns(key=keys, other=owners)
    return {}


def _pairs(task: Task, writers: Writers) -> dict[str, Any]:
    """(band key, document) by key -> pairs worth checking, and the documents in them."""
    unchecked = 0
    for found in task.ranges():
        if found.fits:
            whole = next(found.pieces())
            batches = pairs_in_buckets(whole["key"], whole["other"], task.store, task.config)
        else:
            batches = pairs_in_large_bucket(
                lambda found=found: (piece["other"] for piece in found.pieces()),  # type: ignore[misc]
                task.store,
                task.config,
            )
        for pairs, left in batches:
            unchecked += left
            writers["pairs"].write_columns(key=mixed(pairs[:, 0]), other=mixed(pairs[:, 1]))
            writers["documents"].write_columns(key=np.unique(pairs))
    return {"unchecked": unchecked}


def _shingles(task: Task, writers: Writers) -> dict[str, Any]:
    """A segment -> the shingle sets of its documents that are in a pair."""
    return {OWN_FILES: write_shingles(task.segment, _wanted(task), task.config.shingle_tokens, task.target)}


def _edges(task: Task, writers: Writers) -> dict[str, Any]:
    """Pairs by their first document -> edges, both ways, between documents whose sets are alike."""
    checked = 0
    targets = [task.folder / f"shingles-{i:05d}" for i in range(len(task.store.segments))]
    with ShingleSets(task.store.segments, targets) as sets:
        for found in task.ranges():
            for piece in found.pieces():
                pairs = _distinct_pairs(unmixed(piece["key"]), unmixed(piece["other"]))
                for start in range(0, len(pairs), _PAIR_BATCH):
                    alike = _alike(pairs[start : start + _PAIR_BATCH], sets, task.config.threshold)
                    edges = np.empty(len(alike), dtype=EDGE)
                    edges["key"], edges["other"] = mixed(alike[:, 0]), mixed(alike[:, 1])
                    writers["edges"].write(both_ways(edges))
                checked += len(pairs)
    return {"checked": checked}


def _distinct_pairs(ones: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Pairs [pairs, 2] without repeats (one may come from several bands), in the order of documents."""
    order = np.lexsort((others, ones))
    ones, others = ones[order], others[order]
    first = borders_of_groups(ones, others)[:-1]
    return np.stack([ones[first], others[first]], axis=1)


def _alike(pairs: NDArray[np.uint64], sets: ShingleSets, threshold: float) -> NDArray[np.uint64]:
    """The pairs whose exact Jaccard similarity reaches the threshold; sizes alone rule many out."""
    places = [sets.places(pairs[:, side]) for side in (0, 1)]
    sizes = [place["count"].astype(np.float64) for place in places]
    alike = np.zeros(len(pairs), dtype=bool)
    for i in np.flatnonzero(np.minimum(*sizes) >= threshold * np.maximum(*sizes)).tolist():
        one, other = (sets.read(int(pairs[i, side]), *places[side][i].tolist()) for side in (0, 1))
        alike[i] = jaccard(one, other) >= threshold
    return pairs[alike]


def _large_star(task: Task, writers: Writers) -> dict[str, Any]:
    for found in task.ranges():
        for edges in large_star(found.pieces):
            writers["edges"].write(edges)
    return {}


def _small_star(task: Task, writers: Writers) -> dict[str, Any]:
    count = total = 0
    for found in task.ranges():
        for edges in small_star(found.pieces):
            writers["edges"].write(both_ways(edges))
            count, total = count + len(edges), (total + checksum(edges)) % KEYS
    return {"edges": count, "checksum": total}


def _near(task: Task, writers: Writers) -> dict[str, Any]:
    """Stars by their lowest node -> links of near-duplicates, under themselves."""
    for found in task.ranges():

        def members(found: KeyRange = found) -> Iterator[NDArray[Any]]:
            for edges in found.pieces():
                leaves = edges[edges["other"] > edges["key"]]
                centres = np.unique(leaves["key"])
                nodes = np.concatenate([leaves["other"], centres])
                yield task.store.members(np.concatenate([leaves["key"], centres]), unmixed(nodes))

        for group, kept in kept_of_groups(members):
            twice = np.flatnonzero(kept != group["document"])
            _, first = np.unique(group["document"][twice], return_index=True)
            documents, kept = group["document"][twice[first]], kept[twice[first]]
            _link(writers["links"], mixed(documents), documents, kept, NEAR)
    return {}


def _dropped(task: Task, writers: Writers) -> dict[str, Any]:
    """Links by kept document -> all dropped documents, each with the document that is kept in the end."""
    for found in task.ranges():
        near = np.zeros(0, dtype=_LINK)
        for links in found.pieces():
            near = np.concatenate([near, links[links["outcome"] == NEAR]])
        near = near[np.unique(near["key"], return_index=True)[1]]
        for links in found.pieces():
            exact = links[links["outcome"] == EXACT]
            if len(near):
                place = np.minimum(np.searchsorted(near["key"], exact["key"]), len(near) - 1)
                followed = near["key"][place] == exact["key"]
                exact["kept"][followed] = near["kept"][place[followed]]
            _drop(exact, writers)
        _drop(near, writers)
    return {}


def _drop(links: NDArray[Any], writers: Writers) -> None:
    writers["dropped"].write_columns(key=links["document"], kept=links["kept"], outcome=links["outcome"])
    ones = np.ones(len(links), dtype=np.uint32)
    writers["sizes"].write_columns(key=mixed(links["kept"]), near=links["outcome"] == NEAR, count=ones)


def _copies(task: Task, writers: Writers) -> dict[str, Any]:
    """A segment -> its records that have no rows, being copies within their part, under what is kept for them."""
    copies = task.segment.read_rows()["copies"]
    _, kept = Duplicates(task.inputs).of(task.segment)
    rows = np.flatnonzero(copies)
    writers["sizes"].write_columns(key=mixed(kept[rows]), near=np.zeros(len(rows), dtype=bool), count=copies[rows])
    return {}


_EXACT = Step(_exact, MEMBER, {"links": _LINK, "documents": _KEY})
_BANDS = Step(_bands, _KEY, {"bands": EDGE})
_PAIRS = Step(_pairs, EDGE, {"pairs": EDGE, "documents": _KEY})
_SHINGLES = Step(_shingles, _KEY, {})
_EDGES = Step(_edges, EDGE, {"edges": EDGE})
_LARGE_STAR = Step(_large_star, EDGE, {"edges": EDGE})
_SMALL_STAR = Step(_small_star, EDGE, {"edges": EDGE})
_NEAR = Step(_near, EDGE, {"links": _LINK})
_DROPPED = Step(_dropped, _LINK, {"dropped": DROPPED, "sizes": MEMBER_OF})
_COPIES = Step(_copies, DROPPED, {"sizes": MEMBER_OF})
