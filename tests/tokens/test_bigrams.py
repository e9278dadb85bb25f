from __future__ import annotations

import numpy as np
import pytest
import torch

from groundup.tokens import IGNORE, Batch, bigrams, count_bigrams

VOCAB_SIZE = 7


def batch(seed: int) -> Batch:
    random = np.random.default_rng(seed)
    tokens, targets = torch.from_numpy(random.integers(0, VOCAB_SIZE, (2, 3, 20)))
    targets[torch.from_numpy(random.random((3, 20))) < 0.2] = IGNORE
    nothing = torch.zeros(3, 20, dtype=torch.int32)
    return Batch(tokens, targets, nothing, nothing, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("merge_pairs", [1, 50, 2**22])
def test_every_prediction_is_counted_once(merge_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigrams, "MERGE_PAIRS", merge_pairs)
    wanted = np.zeros((VOCAB_SIZE, VOCAB_SIZE), dtype=np.int64)
    for seed in range(4):
        made = batch(seed)
        for token, target in zip(made.tokens.flatten().tolist(), made.targets.flatten().tolist()):
            if target != IGNORE:
                wanted[token, target] += 1
    found = count_bigrams((batch(seed) for seed in range(4)), VOCAB_SIZE)
    assert np.array_equal(np.stack([found.first, found.second]), np.stack(np.nonzero(wanted)))
    assert np.array_equal(found.counts, wanted[wanted > 0])


def test_no_batch_has_no_pairs() -> None:
    assert len(count_bigrams(iter(()), VOCAB_SIZE).counts) == 0
