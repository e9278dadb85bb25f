"""Which split a document belongs to: a hash of its duplicate cluster against the wanted fractions.

    content hash of the kept document --seed--> draw in [0, 1): below `test`, below `test + validation`, or training

Invariant: the split of a document depends on its cluster's content and the config only, so adding, moving or
renaming other files never moves it to another side. Two things can: a new text that is a duplicate of it and whose hash
is lower takes its place (and the draw is that text's), and a split that would be empty takes a cluster from training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup.config import Config
from groundup.corpus.duplicates.hashing import mixed

TRAIN, VALIDATION, TEST = 1, 2, 3
"""Codes of the splits, in the order of `documents.SPLITS`."""
_LOWEST = 3


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


@dataclass(frozen=True)
class Drawn:
    """What must be known of all keys to see that no wanted split stays empty."""

    codes: frozenset[int] = frozenset()
    """Splits that some key fell into."""
    lowest: tuple[int, ...] = ()
    """The lowest distinct draws of training, three at most."""

    @classmethod
    def of(cls, keys: NDArray[np.uint64], config: SplitConfig) -> Drawn:
        """Of some keys."""
        draws = _draws(keys, config)
        codes = _codes(draws, config)
        lowest = np.unique(draws[codes == TRAIN])[:_LOWEST]
        return cls(frozenset(np.unique(codes).tolist()), tuple(lowest.tolist()))

    @classmethod
    def together(cls, several: Iterable[Drawn]) -> Drawn:
        """Of all keys, from some of them each."""
        every = list(several)
        lowest = sorted({draw for drawn in every for draw in drawn.lowest})[:_LOWEST]
        return cls(frozenset(code for drawn in every for code in drawn.codes), tuple(lowest))

    def moved(self, config: SplitConfig) -> dict[int, int]:
        """draw -> split of what training gives to a wanted split that would be empty, as long as others are left."""
        left, moved = list(self.lowest), {}
        for code, wanted in ((TEST, config.test), (VALIDATION, config.validation)):
            if wanted and code not in self.codes and len(left) > 1:
                moved[left.pop(0)] = code
        return moved


def assign(keys: NDArray[np.uint64], config: SplitConfig, moved: Mapping[int, int] | None = None) -> NDArray[np.uint8]:
    """Split code of each key (a cluster's content hash); equal keys get equal codes.

    `moved`: see Drawn.moved; None: as if these were all keys.
    """
    draws = _draws(keys, config)
    codes = _codes(draws, config)
    for draw, code in (Drawn.of(keys, config).moved(config) if moved is None else moved).items():
        codes[draws == np.uint64(draw)] = code
    return codes


def _draws(keys: NDArray[np.uint64], config: SplitConfig) -> NDArray[np.uint64]:
    return mixed(keys ^ mixed(np.array([config.seed], dtype=np.uint64)))


def _codes(draws: NDArray[np.uint64], config: SplitConfig) -> NDArray[np.uint8]:
    fractions = draws.astype(np.float64) / 2.0**64
    codes = np.full(len(draws), TRAIN, dtype=np.uint8)
    codes[fractions < config.test + config.validation] = VALIDATION
    codes[fractions < config.test] = TEST
    return codes
