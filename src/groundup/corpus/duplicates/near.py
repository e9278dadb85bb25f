"""Signatures -> buckets -> pairs that are worth an exact comparison.

    segment --band_records--> (band key, document) --shuffle--> buckets --pairs_of_bucket--> pairs by estimate

In a bucket documents are compared in the order of their content, all with all; those that an estimate of four standard
errors above the threshold has joined need no comparison any more. Of a bucket with more than PIVOTS documents every one
is compared with the first PIVOTS of them, and those that none of these is like are counted as unchecked.

Invariant: pairs depend on the texts only, not on the order of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.duplicates.signatures import DeduplicateConfig, band_keys, similarity
from groundup.corpus.segments import Store, borders_of_groups

PIVOTS = 200
_BATCH_DOCUMENTS = 1 << 14

Pairs = NDArray[np.uint64]
"""Document numbers [pairs, 2], the lower one first."""


def band_records(
    documents: NDArray[np.uint64], signatures: NDArray[np.uint16], bands: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(band key, document) of every band of every document, as two arrays."""
    return band_keys(signatures, bands).ravel(), np.repeat(documents, bands)


def pairs_in_buckets(
    keys: NDArray[np.uint64], documents: NDArray[np.uint64], store: Store, config: DeduplicateConfig
) -> Iterator[tuple[Pairs, int]]:
    """(pairs worth checking, documents left unchecked) over whole buckets, given in any order, batch by batch."""
    order = np.argsort(keys, kind="stable")
    keys, documents = keys[order], documents[order]
    borders = borders_of_groups(keys)
    sizes = np.diff(borders)
    for start, size in zip(borders[:-1][sizes > PIVOTS].tolist(), sizes[sizes > PIVOTS].tolist()):
        members = documents[start : start + size]
        yield from pairs_in_large_bucket(lambda members=members: iter([members]), store, config)  # type: ignore[misc]
    chosen = (sizes > 1) & (sizes <= PIVOTS)
    starts, sizes = borders[:-1][chosen], sizes[chosen]
    batch = np.cumsum(sizes) // _BATCH_DOCUMENTS
    for number in np.unique(batch).tolist():
        yield _pairs_in_small_buckets(documents, starts[batch == number], sizes[batch == number], store, config), 0


def _pairs_in_small_buckets(
    documents: NDArray[np.uint64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    store: Store,
    config: DeduplicateConfig,
) -> Pairs:
    needed, place = np.unique(
        np.concatenate([documents[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist())]),
        return_inverse=True,
    )
    signatures = store.signatures(needed, config.num_perm)
    offsets = np.cumsum(sizes) - sizes
    twos = offsets[sizes == 2]
    ones, others = place[twos], place[twos + 1]
    alike = similarity(signatures[ones], signatures[others]) >= config.threshold - config.margin()
    found = [np.stack([needed[ones[alike]], needed[others[alike]]], axis=1)]
    content = store.rows(needed)["content"] if (sizes > 2).any() else None
    for offset, size in zip(offsets[sizes > 2].tolist(), sizes[sizes > 2].tolist()):
        assert content is not None
        members = place[offset : offset + size]
        members = members[np.lexsort((content[members, 1], content[members, 0]))]
        pairs, _ = pairs_of_bucket(signatures[members], config)
        found.append(needed[members[pairs]])
    return np.sort(np.concatenate(found), axis=1)


def pairs_of_bucket(
    signatures: NDArray[np.uint16], config: DeduplicateConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(positions [pairs, 2] worth checking, cluster of each member by sure estimates) of a bucket in content order."""
    low, sure = config.threshold - config.margin(), min(1.0, config.threshold + config.margin())
    count = len(signatures)
    cluster = np.arange(count)
    found = []
    for position in range(count - 1):
        others = position + 1 + np.flatnonzero(cluster[position + 1 :] != cluster[position])
        if not len(others):
            if (cluster == cluster[0]).all():
                break
            continue
        estimates = similarity(signatures[position], signatures[others])
        near = others[estimates >= low]
        found.append(np.stack([np.full(len(near), position), near], axis=1))
        joined = np.unique(cluster[others[estimates >= sure]])
        if len(joined):
            cluster[np.isin(cluster, joined)] = cluster[position]
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64), cluster


def pairs_in_large_bucket(
    pieces: Callable[[], Iterable[NDArray[np.uint64]]], store: Store, config: DeduplicateConfig
) -> Iterator[tuple[Pairs, int]]:
    """(pairs worth checking, documents left unchecked) of one bucket that may not fit in memory, batch by batch."""
    pivots = _first_by_content(pieces(), store)
    pivot_signatures = store.signatures(pivots, config.num_perm)
    pairs, cluster = pairs_of_bucket(pivot_signatures, config)
    yield np.sort(pivots[pairs], axis=1), 0
    for documents in pieces():
        members = documents[~np.isin(documents, pivots)]
        for start in range(0, len(members), _BATCH_DOCUMENTS):
            batch = members[start : start + _BATCH_DOCUMENTS]
            near, unchecked = _compare_with_pivots(
                store.signatures(batch, config.num_perm), pivot_signatures, cluster, config
            )
            yield np.sort(np.stack([batch[near[:, 0]], pivots[near[:, 1]]], axis=1), axis=1), unchecked


def _first_by_content(pieces: Iterable[NDArray[np.uint64]], store: Store) -> NDArray[np.uint64]:
    """The PIVOTS documents with the lowest content hashes, in that order."""
    first = np.zeros(0, dtype=np.uint64)
    for documents in pieces:
        for start in range(0, len(documents), _BATCH_DOCUMENTS):
            first = np.concatenate([first, documents[start : start + _BATCH_DOCUMENTS]])
            content = store.rows(first)["content"]
            first = first[np.lexsort((content[:, 1], content[:, 0]))[:PIVOTS]]
    return first


def _compare_with_pivots(
    signatures: NDArray[np.uint16],
    pivots: NDArray[np.uint16],
    cluster: NDArray[np.int64],
    config: DeduplicateConfig,
) -> tuple[NDArray[np.int64], int]:
    """((member, pivot) positions worth checking, members that no pivot is surely like)."""
    low, sure = config.threshold - config.margin(), min(1.0, config.threshold + config.margin())
    joined = np.zeros((len(signatures), len(pivots)), dtype=bool)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for pivot in range(len(pivots)):
        members = np.flatnonzero(~joined[:, cluster[pivot]])
        if not len(members):
            continue
        chosen = signatures if len(members) == len(signatures) else signatures[members]
        estimates = similarity(pivots[pivot], chosen)
        near = members[estimates >= low]
        found.append(np.stack([near, np.full(len(near), pivot)], axis=1))
        joined[members[estimates >= sure], cluster[pivot]] = True
    return np.concatenate(found), int((~joined.any(axis=1)).sum())
