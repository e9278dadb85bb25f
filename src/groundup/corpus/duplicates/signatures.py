"""Token hashes -> MinHash signatures -> band keys: texts that are alike meet in a bucket without comparing all pairs.

    shingles --rensa (Rust)--> num_perm minima --folded to 16 bits--> signature
    signature --bands of rows--> one 64-bit key a band;   equal keys: the two texts are compared

A folded entry agrees by chance in 1 of 65,536 cases: it shifts an estimate by less than 0.00002 and halves the space.
Invariant: signatures depend on the shingle set and the config only.

MinHash: Broder 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3.4.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import rensa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup.config import Config
from groundup.corpus.duplicates.shingles import windows_of_texts

SIGNATURE_SEED = 1
_DEVIATIONS = 4.0


class DeduplicateConfig(Config):
    """Exact duplicates are always dropped; near-duplicates where `near` is set."""

    near: bool = True
    """Find near-duplicates too. Without it they may end up on two sides of the split."""
    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """Exact Jaccard similarity of the shingle sets from which two documents count as the same."""
    num_perm: int = Field(default=120, ge=8, le=1024)
    """Length of a signature; the estimate's standard error is sqrt(s(1-s)/num_perm): 0.037 at s = 0.8."""
    bands: int = Field(default=20, ge=1, le=512)
    """Two documents are compared when they agree in a whole band; must divide num_perm."""
    shingle_tokens: int = Field(default=5, ge=1, le=50)
    """Length of a shingle in words (in characters for scripts without spaces)."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.num_perm % self.bands:
            raise ValueError(f"bands must divide num_perm = {self.num_perm}, for example 20 bands of 120")
        return self

    def chance_compared(self, similarity: float) -> float:
        """Probability that two documents of this Jaccard similarity are compared: 1 - (1 - s^rows)^bands."""
        return 1.0 - (1.0 - similarity ** (self.num_perm // self.bands)) ** self.bands

    def margin(self) -> float:
        """Four standard errors of an estimate at the threshold: 0.146 with the defaults.

        A pair estimated that far below the threshold is not checked (a true pair is so in 3 of 100,000 cases).
        """
        return float(_DEVIATIONS * (self.threshold * (1.0 - self.threshold) / self.num_perm) ** 0.5)


class Signer:
    """Token hashes in, signatures out; signs in batches, because one call over many texts is far cheaper."""

    def __init__(self, config: DeduplicateConfig) -> None:
        self.config = config
        self.pending_shingles = 0
        self._tokens: list[NDArray[np.uint64]] = []

    def add(self, tokens: NDArray[np.uint64]) -> int:
        """Queue a text by its token hashes; returns its number of shingles (0: nothing to compare it by)."""
        self._tokens.append(tokens)
        shingles = max(min(len(tokens), 1), len(tokens) - self.config.shingle_tokens + 1)
        self.pending_shingles += shingles
        return shingles

    def take(self) -> NDArray[np.uint16]:
        """Signatures [texts, num_perm] of all queued texts, in order."""
        if not self._tokens:
            return np.zeros((0, self.config.num_perm), dtype=np.uint16)
        shingles, offsets = windows_of_texts(self._tokens, self.config.shingle_tokens)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            shingles, offsets.tolist(), self.config.num_perm, SIGNATURE_SEED
        )
        self._tokens, self.pending_shingles = [], 0
        return folded(np.array(matrix.to_rows(), dtype=np.uint32))


def folded(signatures: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Each entry as 16 bits that depend on all of its 32 (Fibonacci hashing)."""
    return ((signatures * np.uint32(0x9E3779B1)) >> np.uint32(16)).astype(np.uint16)


def band_keys(signatures: NDArray[np.uint16], bands: int) -> NDArray[np.uint64]:
    """Keys [texts, bands]: equal where two texts agree in all rows of that band; keys of two bands never meet."""
    count, num_perm = signatures.shape
    columns = signatures.reshape(count, bands, num_perm // bands)
    keys = np.arange(1, bands + 1, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93) + np.zeros((count, 1), np.uint64)
    for row in range(num_perm // bands):
        keys ^= columns[:, :, row]
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys


def similarity(one: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Share of equal entries of a signature and each of several: an unbiased estimate of the Jaccard similarity."""
    return np.asarray((others == one).mean(axis=-1))
