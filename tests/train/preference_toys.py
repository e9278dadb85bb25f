"""Rows of preferences over the toy vocabulary: the better answer counts upwards, the worse one downwards."""

from __future__ import annotations

import numpy as np

from groundup.models import DPOConfig, IPOConfig, KTOConfig, ORPOConfig, PreferenceLossConfig, PreferenceRule
from groundup.tokens import IGNORE
from groundup.tokens.packing import Row
from groundup.tokens.preference_rows import GROUPS, SEGMENTS, TOKENS, Answered, Item, packed, row_of
from groundup.train.settings import TrainingConfig
from tests.train import toys

RULES: dict[str, PreferenceRule] = {
    "dpo": DPOConfig(beta=0.5),
    "ipo": IPOConfig(beta=0.5),
    "kto": KTOConfig(beta=0.5),
    "orpo": ORPOConfig(beta=0.5),
}


def items(kto: bool, count: int = 8) -> list[Item]:
    """Pairs, or groups of two judged and two mismatched answers."""
    random = np.random.default_rng(5)
    found: list[Item] = []
    for _ in range(count):
        start, other = (int(token) for token in random.integers(10, toys.VOCAB_SIZE - 10, 2))
        prompt, second = [start - 1, start], [other]
        better, worse = [start + 1, start + 2], [start - 1, start - 2, start - 3][: int(random.integers(2, 4))]
        if kto:
            judged = [Answered(prompt, better, 1), Answered(second, worse, 0)]
            found.append([*judged, Answered(prompt, worse, IGNORE), Answered(second, better, IGNORE)])
        else:
            found.append([Answered(prompt, better, 1), Answered(prompt, worse, IGNORE)])
    return found


class ToyPreferences:
    """The rows of some items, with log-probabilities of a made-up reference."""

    context_length = toys.CONTEXT_LENGTH

    def __init__(self, name: str, kto: bool = False, wanted: list[Item] | None = None) -> None:
        self.name = name
        self.items = wanted or items(kto)
        self.block = packed(self.items, self.context_length, 0)
        self.num_rows = len(self.block)

    def row(self, index: int) -> Row:
        planes = self.block[index]
        # By what is said, not by where: the same answer has the same reference in every packing.
        said = np.bincount(planes[SEGMENTS], planes[TOKENS], minlength=self.context_length)
        references = np.where(planes[GROUPS] >= 0, -5.0 - said % 7, 0.0)
        return row_of(planes, references.astype(np.float32))


def training(rule: PreferenceRule, steps: int = 8, optimizer: str = "adamw") -> TrainingConfig:
    """A training config with the rule as its loss."""
    return with_rule(toys.training(steps, optimizer), rule)


def with_rule(config: TrainingConfig, rule: PreferenceRule) -> TrainingConfig:
    """`config` with the rule as its loss."""
    return config.model_copy(update={"loss": PreferenceLossConfig(rule=rule)})
