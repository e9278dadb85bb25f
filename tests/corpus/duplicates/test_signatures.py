"""Signatures estimate Jaccard similarity; bands are met with the stated probability."""

import random

import numpy as np
import pytest
from pydantic import ValidationError

from groundup.corpus.duplicates.shingles import jaccard, shingle_set, token_hashes
from groundup.corpus.duplicates.signatures import DeduplicateConfig, Signer, band_keys, folded, similarity
from tests.corpus.made_duplicates import sentence, variant


def signatures(texts, config):
    signer = Signer(config)
    for text in texts:
        signer.add(token_hashes(text))
    return signer.take()


def true_similarity(one, other):
    return jaccard(*(shingle_set(token_hashes(text), 5) for text in (one, other)))


def test_signatures_estimate_jaccard_similarity():
    rng = random.Random(0)
    errors = []
    for changes in (0, 2, 5, 10, 20, 3000):
        for _ in range(8):
            text = sentence(rng, 300)
            other = variant(text, rng, changes)
            one, two = signatures([text, other], DeduplicateConfig())
            errors.append(float(similarity(one, two)) - true_similarity(text, other))
    assert abs(np.mean(errors)) < 0.015  # 48 pairs of standard error below 0.046
    assert np.abs(errors).max() < 0.16


def test_folding_keeps_what_differs_apart():
    values = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    small = np.arange(60_000, dtype=np.uint32)
    for entries in (values, small, small << np.uint32(16)):
        chosen = folded(entries)
        assert np.bincount(chosen, minlength=1 << 16).max() < 30 * max(1, len(entries) >> 16)


def test_equal_bands_give_equal_keys_and_bands_do_not_mix():
    signature = np.tile(np.arange(6, dtype=np.uint16), (2, 20))
    signature[1, 3] += 1
    keys = band_keys(signature, 20)
    assert len(set(keys[0].tolist())) == 20  # all bands hold the same numbers
    assert (keys[0] == keys[1]).tolist() == [False] + [True] * 19


def test_pairs_are_compared_with_the_stated_probability():
    config = DeduplicateConfig(num_perm=24, bands=6)
    rng = random.Random(1)
    met, chances = [], []
    for _ in range(300):
        text = sentence(rng, 100)
        other = variant(text, rng, 5)
        one, two = band_keys(signatures([text, other], config), 6)
        met.append((one == two).any())
        chances.append(config.chance_compared(true_similarity(text, other)))
    assert np.mean(met) == pytest.approx(np.mean(chances), abs=0.09)  # three standard errors


def test_the_stated_chance_to_be_compared():
    config = DeduplicateConfig(num_perm=120, bands=20)
    assert config.chance_compared(0.8) == pytest.approx(0.9977, abs=1e-4)
    assert config.chance_compared(0.3) < 0.02
    assert config.margin() == pytest.approx(0.146, abs=1e-3)
    with pytest.raises(ValidationError, match="bands must divide"):
        DeduplicateConfig(num_perm=128, bands=20)
