"""What each kind of task makes of a record, what it asks, and what it counts of what comes back.

    values --item--> Item --(prompts, pairs | generation)--> Outcome: numbers to average, sums to resample, a sample

Invariant: an outcome depends on its own item only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from groundup.evaluate.metrics import Metric
from groundup.evaluate.scores.bootstrap import Statistic
from groundup.evaluate.task import Subject
from groundup.evaluate.tasks.items import Item, Prompt

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Asked:
    """An item with what stands before each of its continuations."""

    item: Item
    prompts: tuple[Prompt, ...]
    shown: tuple[str, ...] = ()
    """The prompts as the model reads them, for samples; known once it is asked."""


@dataclass
class Outcome:
    """What came of one item."""

    sample: dict[str, Any]
    ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric -> what is added to its numerator and denominator."""
    sums: dict[str, Sequence[float]] = field(default_factory=dict)
    """Score of the whole set -> what is summed for it."""
    groups: tuple[str, ...] = ()
    """Groups that it counts in, beside all."""


class Kind(Protocol):
    """One task, made from its config."""

    statistics: Mapping[str, Statistic]
    """Scores of the whole set, from what is summed for them."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that every record needs."""

    @property
    def optional_fields(self) -> tuple[str, ...]:
        """Fields that are read where they are there."""

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """The item of a record. Raises Refused."""

    def look(self, item: Item) -> None:
        """Be shown every item once before any is asked."""

    def ask(self, subject: Subject, asked: Sequence[Asked], advance: Advance) -> list[Outcome]:
        """Have the model say something of each."""

    def finish(self, metrics: dict[str, Metric]) -> dict[str, Metric]:
        """What was averaged -> the metrics to report, by `<metric>` or `<metric>/<group>`."""

    def about(self) -> dict[str, Any]:
        """What else decides the figures, for samples and log."""


def perplexity(log_likelihood: Metric) -> Metric:
    """Mean log-probability -> perplexity, its error by the derivative."""
    value = math.exp(min(-log_likelihood.value, 700.0))
    error = None if log_likelihood.stderr is None else value * log_likelihood.stderr
    return Metric(value, error, log_likelihood.n)
