"""Which split a document belongs to: a hash of its duplicate cluster against the wanted fractions.

Invariant: the split of a document depends on its cluster's content and the config only, so adding, moving or
renaming other files never moves it to another side (but for a split that would otherwise stay empty).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup.config import Config

TRAIN, VALIDATION, TEST = 1, 2, 3
"""Codes of the splits, in the order of `documents.SPLITS`."""


class SplitConfig(Config):
    """Fractions of the documents kept apart; the rest is for training."""

    validation: float = Field(default=0.02, ge=0, lt=1)
    """Fraction for validation while training. Above 0 it gets at least one cluster."""
    test: float = Field(default=0.0, ge=0, lt=1)
    """Fraction for a test at the end. Above 0 it gets at least one cluster."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Another seed draws other documents."""

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be below 1, so that something is left to train on")
        return self


def assign(keys: NDArray[np.uint64], config: SplitConfig) -> NDArray[np.uint8]:
    """Split code of each key (a cluster's content hash); equal keys get equal codes.

    A wanted split that no key fell into takes the key whose hash is nearest to it, as long as others are left.
    """
    draws = _mix(keys ^ _mix(np.array([config.seed], dtype=np.uint64)))
    fractions = draws.astype(np.float64) / 2.0**64
    codes = np.full(len(keys), TRAIN, dtype=np.uint8)
    codes[fractions < config.test + config.validation] = VALIDATION
    codes[fractions < config.test] = TEST
    for code, wanted in ((TEST, config.test), (VALIDATION, config.validation)):
        others = np.flatnonzero(codes == TRAIN)
        if wanted and not (codes == code).any() and len(np.unique(draws[others])) > 1:
            codes[draws == draws[others].min()] = code
    return codes


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
