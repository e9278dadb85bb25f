"""A row of text -> the same row with some tokens hidden, and these as its targets (Devlin et al. 2019, 1810.04805).

    tokens     [CLS] The  riv  er  rose . [SEP]              chosen: whole words (or tokens) at random, share of the row
               [CLS] The [MASK] tall rose . [SEP]            80% [MASK], 10% any token, 10% left as they are
    targets      -    -   riv   er   -   -   -               - : IGNORE

What is drawn is a hash of (seed, number of the use, position): no state, so a resumed run draws the same.
Invariant: never more than `share` of a row's positions are targets, and none of them is a control token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup.config import Config
from groundup.tokens.draws import draws, shares
from groundup.tokens.packing import IGNORE
from groundup.tokens.word_starts import WordStarts

_CHOICE, _FATE, _SUBSTITUTE = range(3)


class MaskingConfig(Config):
    """Masked language modelling: which tokens are predicted, and what stands in their place."""

    share: float = Field(default=0.15, gt=0, lt=1)
    """Share of a row's text that is predicted; at most the model's predicted_share."""
    whole_words: bool = False
    """Choose whole words; where scripts put no spaces (Chinese, Japanese, Thai ...), tokens of the vocabulary."""
    masked: float = Field(default=0.8, ge=0, le=1)
    """Share of the chosen tokens that become [MASK]."""
    replaced: float = Field(default=0.1, ge=0, le=1)
    """Share of the chosen tokens that become any other token; the rest stay as they are."""
    next_sentence_weight: float = Field(default=1.0, gt=0)
    """What the loss on next sentences counts beside that on masked tokens; with model.next_sentence."""

    @model_validator(mode="after")
    def _shares(self) -> MaskingConfig:
        if self.masked + self.replaced > 1 + 1e-9:
            raise ValueError(f"masked {self.masked} and replaced {self.replaced} add up to more than 1")
        return self


class Masking:
    """Draws masks for rows; `mask_id` is what [MASK] is."""

    def __init__(self, config: MaskingConfig, words: WordStarts, mask_id: int, seed: int) -> None:
        self.config, self.words, self.mask_id, self.seed = config, words, mask_id, seed
        self._ordinary = np.flatnonzero(words.ordinary)

    def apply(self, tokens: NDArray[np.int64], draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens with some hidden, targets) of a row [time] at use number `draw`."""
        chosen = self._chosen(tokens, draw)
        targets = np.full(len(tokens), IGNORE, dtype=np.int64)
        targets[chosen] = tokens[chosen]
        hidden = tokens.copy()
        fate = shares(draws(len(tokens), self.seed, draw, _FATE))[chosen]
        hidden[chosen[fate < self.config.masked]] = self.mask_id
        random = chosen[(fate >= self.config.masked) & (fate < self.config.masked + self.config.replaced)]
        numbers = draws(len(tokens), self.seed, draw, _SUBSTITUTE)[random]
        hidden[random] = self._ordinary[(numbers % np.uint64(len(self._ordinary))).astype(np.int64)]
        return hidden, targets

    def _chosen(self, tokens: NDArray[np.int64], draw: int) -> NDArray[np.int64]:
        """Positions to predict: units in random order, as many as fit the budget."""
        places = np.flatnonzero(self.words.ordinary[tokens])
        if not len(places):
            return places
        budget = min(max(1, int(self.config.share * len(places))), max(1, int(self.config.share * len(tokens))))
        if not self.config.whole_words:
            order = np.argsort(draws(len(tokens), self.seed, draw, _CHOICE)[places], kind="stable")
            return np.sort(places[order[:budget]])
        unit = np.cumsum(self.words.of(tokens)[places]) - 1
        lengths = np.bincount(unit)
        order = np.argsort(draws(len(lengths), self.seed, draw, _CHOICE), kind="stable")
        taken = order[_fitting(lengths[order], budget)]
        return places[np.isin(unit, taken)]


def _fitting(lengths: NDArray[np.int64], budget: int) -> NDArray[np.bool_]:
    """Which of the units, taken in order, fit the budget; one that does not is passed over."""
    fits = np.zeros(len(lengths), dtype=bool)
    for index, length in enumerate(lengths.tolist()):
        if length <= budget:
            fits[index] = True
            budget -= length
            if not budget:
                break
    return fits
