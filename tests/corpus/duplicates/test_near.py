"""Buckets give the pairs worth checking, in the order of content; large ones are bounded and said."""

import numpy as np

from groundup.corpus.duplicates import near
from groundup.corpus.duplicates.near import pairs_in_buckets, pairs_of_bucket
from groundup.corpus.duplicates.signatures import DeduplicateConfig

CONFIG = DeduplicateConfig(near=True)


class Memory:
    """A store of signatures and contents in memory; document numbers are positions."""

    def __init__(self, signatures):
        self._signatures = signatures
        self._rows = np.zeros(len(signatures), dtype=[("content", "<u8", 2)])
        self._rows["content"] = np.random.default_rng(1).permutation(len(signatures))[:, None]

    def signatures(self, documents, num_perm):
        return self._signatures[documents.astype(int)]

    def rows(self, documents):
        return self._rows[documents.astype(int)]


def random_signatures(count):
    return np.random.default_rng(0).integers(0, 2**16, (count, 120), dtype=np.uint16)


def pairs(keys, store, documents=None):
    documents = np.arange(len(keys), dtype=np.uint64) if documents is None else documents
    found = list(pairs_in_buckets(np.array(keys, dtype=np.uint64), documents, store, CONFIG))
    return {tuple(pair) for batch, _ in found for pair in batch.tolist()}, sum(left for _, left in found)


def test_only_documents_of_one_bucket_that_look_alike_are_paired():
    signatures = random_signatures(8)
    signatures[1, :90] = signatures[0, :90]  # 0.75: worth checking at a threshold of 0.8
    signatures[3, :70] = signatures[2, :70]  # 0.58: not
    signatures[6:] = signatures[4]
    found, unchecked = pairs([1, 1, 2, 2, 3, 9, 3, 3], Memory(signatures))
    assert (0, 1) in found and (2, 3) not in found
    assert len(found - {(0, 1)}) == 2  # three the same: a tree of two pairs, not three
    assert {document for pair in found for document in pair} == {0, 1, 4, 6, 7}
    assert unchecked == 0


def test_pairs_do_not_depend_on_the_order_of_documents():
    signatures = random_signatures(40)
    for i in range(1, 40):
        signatures[i, : 60 + i] = signatures[i // 2, : 60 + i]
    store = Memory(signatures)
    keys = np.arange(40) // 14
    expected = pairs(keys, store)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(40)
        assert pairs(keys[order], store, order.astype(np.uint64)) == expected
    assert len(expected[0]) >= 10


def test_a_chain_within_a_bucket_stays_connected():
    signatures = random_signatures(1).repeat(9, axis=0)
    for i in range(9):
        signatures[i:, 12 * i : 12 * i + 12] += 1  # neighbours at 0.9, further ones below the threshold
    found, cluster = pairs_of_bucket(signatures, DeduplicateConfig(threshold=0.85))
    assert {(i, i + 1) for i in range(8)} <= {tuple(pair) for pair in found.tolist()}
    assert len(set(cluster.tolist())) == 9  # no estimate is sure enough to leave pairs out


def test_large_buckets_are_bounded_and_said(monkeypatch):
    monkeypatch.setattr(near, "PIVOTS", 5)
    monkeypatch.setattr(near, "_BATCH_DOCUMENTS", 7)
    signatures = random_signatures(40)
    found, unchecked = pairs([1] * 40, Memory(signatures))
    assert (found, unchecked) == (set(), 35)
    signatures[:] = signatures[0]
    found, unchecked = pairs([1] * 40, Memory(signatures))
    assert (len(found), unchecked) == (39, 0)
