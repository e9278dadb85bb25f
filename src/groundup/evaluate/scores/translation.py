"""BLEU and chrF of a whole set, by sacrebleu (Post 2018), with its signature, which says all that decides the figure.

Invariant: the figure is sacrebleu's own for the same texts, and the signature that which it prints.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import RecipeError

TRANSLATION = ("bleu", "chrf")


class TranslationScore:
    """One of sacrebleu's metrics, fed text by text. Raises RecipeError when sacrebleu is not there."""

    def __init__(self, name: str, language: str) -> None:
        try:
            metrics: Any = importlib.import_module("sacrebleu.metrics")
        except ImportError:
            raise RecipeError(
                f"metrics: {name} needs sacrebleu, which is not installed; pip install 'groundup[metrics]'"
            ) from None
        # Texts are as people write them, so a full stop behind a space is no sign of tokens (force).
        tokenize = "zh" if language == "zh" else "13a"
        self._metric = metrics.BLEU(tokenize=tokenize, force=True) if name == "bleu" else metrics.CHRF()
        self._references: set[int] = set()

    def sums(self, prediction: str, references: Sequence[str]) -> list[float]:
        """What is summed over all texts."""
        self._references.add(len(references))
        found = self._metric._extract_corpus_statistics([prediction], [[text] for text in references])
        return [float(number) for number in found[0]]

    def score(self, sums: NDArray[np.float64]) -> float:
        """The score, 0 to 100, from the sums over texts."""
        return float(self._metric._compute_score_from_stats(sums.tolist()).score)

    @property
    def signature(self) -> str:
        """sacrebleu's line about how the score came about."""
        self._metric.num_refs = next(iter(self._references)) if len(self._references) == 1 else -1
        return str(self._metric.get_signature())
