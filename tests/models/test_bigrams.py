"""Tables made from counted pairs: they predict the pairs, and better than words' frequencies alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from groundup.models.bigrams import FULL_RATE_SIZE, PairCounts, bigram_tables

VOCAB_SIZE, SIZE = 60, 12


def drawn(seed: int = 0, texts: int = 40_000) -> tuple[Tensor, Tensor]:
    """Pairs of a language in which a token's class decides what follows: [vocab, vocab] probabilities and counts."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randn(VOCAB_SIZE, 4, generator=random) @ torch.randn(4, VOCAB_SIZE, generator=random)
    following = torch.softmax(classes, dim=1)
    first = torch.multinomial(torch.arange(1.0, VOCAB_SIZE + 1), texts, replacement=True, generator=random)
    second = torch.multinomial(following[first], 1, generator=random)[:, 0]
    counts = torch.zeros(VOCAB_SIZE, VOCAB_SIZE).index_put((first, second), torch.tensor(1.0), accumulate=True)
    return following, counts


def pair_counts(counts: Tensor) -> PairCounts:
    first, second = torch.nonzero(counts, as_tuple=True)
    return PairCounts.of(first, second, counts[first, second], len(counts))


def loss(tables: tuple[Tensor, Tensor], counts: Tensor) -> float:
    """Mean nats of the pairs under the tables."""
    scores = torch.log_softmax(tables[0] @ tables[1].T, dim=1)
    return float(-(counts * scores).sum() / counts.sum())


def test_tables_predict_what_follows_in_other_text_of_the_language() -> None:
    following, counts = drawn()
    _, other = drawn(seed=0, texts=40_000)
    general = counts.sum(0) / counts.sum()
    by_frequency = float(-(other * general.log()).sum() / other.sum())
    best = float(-(other * following.log()).sum() / other.sum())
    fitted = loss(bigram_tables(pair_counts(counts), SIZE, 0, 1, torch.float32), other)
    refined = loss(bigram_tables(pair_counts(counts), SIZE, 30, 1, torch.float32), other)
    assert refined < fitted < by_frequency
    assert refined - best < 0.25 * (by_frequency - best)


def test_embeddings_have_unit_size_and_every_token_has_one() -> None:
    _, counts = drawn()
    counts[3] = 0  # a token that nothing follows, as one that ends every document
    embedding, head = bigram_tables(pair_counts(counts), SIZE, 5, 1, torch.float32)
    assert embedding.shape == head.shape == (VOCAB_SIZE, SIZE)
    assert torch.allclose(embedding.square().mean(1).sqrt(), torch.ones(VOCAB_SIZE), atol=1e-3)
    assert embedding.isfinite().all() and head.isfinite().all()


def test_same_counts_and_seed_give_the_same_tables_another_seed_others() -> None:
    _, counts = drawn()
    one, again, other = (bigram_tables(pair_counts(counts), SIZE, 3, seed, torch.float32) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])
    assert math.isclose(loss(one, counts), loss(other, counts), rel_tol=0.02)


def test_a_model_wider_than_the_vocabulary_is_served() -> None:
    _, counts = drawn()
    embedding, head = bigram_tables(pair_counts(counts), 2 * VOCAB_SIZE, 0, 1, torch.float32)
    general = counts.sum(0) / counts.sum()
    assert loss((embedding, head), counts) < float(-(counts * general.log()).sum() / counts.sum())


def test_no_pair_is_an_error() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="text is empty"):
        PairCounts.of(nothing, nothing, nothing, VOCAB_SIZE)


def test_steps_over_tables_wider_than_rates_are_meant_for_serve_too() -> None:
    _, counts = drawn()
    pairs = pair_counts(counts)
    made = (bigram_tables(pairs, 16 * FULL_RATE_SIZE, steps, 1, torch.float32) for steps in (0, 30))
    start, refined = (loss(tables, counts) for tables in made)
    assert refined < start


def test_what_all_contexts_share_does_not_fill_the_embeddings() -> None:
    following, _ = drawn()
    skewed = following * torch.logspace(0, -6, VOCAB_SIZE)
    counts = (1e6 * skewed / skewed.sum()).round()
    embedding, _ = bigram_tables(pair_counts(counts), SIZE, 0, 1, torch.float32)
    variances = torch.linalg.svdvals(embedding).square()
    assert variances[0] < 0.7 * variances.sum()
