"""Results of trials -> which values of lambda go on, and which one is chosen and why. Pure functions, no training.

Each value of the grid is a point of two figures: how good the answers to held-out conversations are, and by what part
the held-out text became worse (forgetting). The order of points, for stopping as for choosing:

    1. those within the bound (forgetting + its standard error <= bound), best answers first
    2. the others, least forgetting first

Stopping (successive halving over the folds, Jamieson and Talwalkar, arXiv 1502.07943): after each fold the better part
of the points goes on, two at least. Choosing, among points that were never stopped: the first in order; and of the
points within the bound whose answers are not worse than its own by more than one standard error of the paired
difference (the rule of one standard error, Breiman et al., 1984), the one that forgets least.
Invariant: a point that was stopped or diverged is never chosen; the result does not depend on the order of the points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groundup.evaluate import ClusterRatio, Metric

NOT_MEASURED = Metric(math.nan, None, 0)
"""Of a trial that diverged."""


@dataclass(frozen=True)
class Trial:
    """One short tuning: with this lambda, without this fold."""

    weight: float
    fold: int
    scores: tuple[tuple[float, float], ...] = ()
    """(sum, weight) of each held-out conversation; their ratio is the quality. Equal conversations in all trials."""
    forgetting: Metric = NOT_MEASURED
    """Part by which held-out bits per byte are worse than the baseline's."""
    since_before: Metric = NOT_MEASURED
    """The same against the model before, whatever the baseline."""
    diverged: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON-like values that `from_dict` reads back to the bit."""
        return {
            "lambda": self.weight,
            "fold": self.fold,
            "scores": [list(pair) for pair in self.scores],
            "forgetting": self.forgetting.as_dict(),
            "since_before": self.since_before.as_dict(),
            "diverged": self.diverged,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Trial:
        """The trial that `as_dict` wrote."""
        scores = tuple((float(total), float(weight)) for total, weight in values["scores"])
        forgetting, since_before = (_metric(values[name]) for name in ("forgetting", "since_before"))
        return cls(values["lambda"], values["fold"], scores, forgetting, since_before, values["diverged"])

    @property
    def quality(self) -> Metric:
        """Of the answers of its fold, with its standard error over conversations."""
        return _ratio(self.scores)


@dataclass(frozen=True)
class Point:
    """A value of lambda with its trials, in the order of folds."""

    weight: float
    trials: tuple[Trial, ...]
    stopped: str = ""
    """Why it did not go on; empty: it did."""

    @property
    def diverged(self) -> bool:
        """Whether one of its trials did."""
        return any(trial.diverged for trial in self.trials)

    @property
    def scores(self) -> tuple[tuple[float, float], ...]:
        """Of all its held-out conversations, in order."""
        return tuple(pair for trial in self.trials for pair in trial.scores)

    @property
    def quality(self) -> Metric:
        """Over the held-out conversations of all its folds."""
        return _ratio(self.scores)

    @property
    def forgetting(self) -> Metric:
        """Mean over its folds. All are measured on the same text, so its error is not smaller than theirs; where the
        folds differ more than that, their spread counts.
        """
        return self._mean([trial.forgetting for trial in self.trials])

    @property
    def since_before(self) -> Metric:
        """As `forgetting`, against the model before."""
        return self._mean([trial.since_before for trial in self.trials])

    @staticmethod
    def _mean(found: Sequence[Metric]) -> Metric:
        value = sum(metric.value for metric in found) / len(found)
        within = sum(metric.stderr or 0.0 for metric in found) / len(found)
        spread = 0.0
        if len(found) > 1:
            squares = sum((metric.value - value) ** 2 for metric in found)
            spread = math.sqrt(squares / (len(found) - 1) / len(found))
        return Metric(value, max(within, spread), found[0].n)


@dataclass(frozen=True)
class Rule:
    """What is asked of a value."""

    bound: float
    higher_is_better: bool = False

    def within(self, point: Point) -> bool:
        """Whether it forgets little enough, with its standard error against it."""
        found = point.forgetting
        return found.value + (found.stderr or 0.0) <= self.bound

    def worse(self, quality: float) -> float:
        """Quality as a number that is the larger, the worse the answers are."""
        return -quality if self.higher_is_better else quality

    def order(self, points: Sequence[Point]) -> list[Point]:
        """Best first; those that diverged are left out."""

        def key(point: Point) -> tuple[bool, float, float]:
            inside = self.within(point)
            return not inside, self.worse(point.quality.value) if inside else point.forgetting.value, point.weight

        return sorted((point for point in points if not point.diverged), key=key)

    def tied(self, best: Point, other: Point) -> bool:
        """Whether `other` answers no worse than `best`, up to one standard error of the paired difference."""
        ratio = ClusterRatio()
        for (mine, weight), (theirs, _) in zip(best.scores, other.scores, strict=True):
            ratio.add([self.worse(theirs) - self.worse(mine)], [weight])
        return ratio.value <= (ratio.stderr or 0.0)


@dataclass(frozen=True)
class Choice:
    """The value that is trained with, and why."""

    weight: float
    within_bound: bool
    why: str
    warnings: tuple[str, ...] = field(default=())


def survivors(points: Sequence[Point], rule: Rule, keep: float) -> set[float]:
    """The values that go on to the next fold: the best `keep` of them, rounded up, and two at least."""
    return {point.weight for point in rule.order(points)[: _kept(len(points), keep)]}


def trials_of_folds(count: int, folds: int, keep: float) -> list[int]:
    """How many trials each fold has, when none diverges: what the search will cost."""
    planned = [count]
    while len(planned) < folds:
        planned.append(_kept(planned[-1], keep))
    return planned


def _kept(count: int, keep: float) -> int:
    return min(count, max(2, math.ceil(keep * count - 1e-9)))


def choose(points: Sequence[Point], rule: Rule, unit: str) -> Choice | None:
    """The value to train with, of the points that were never stopped; None when there is none.

    `unit`: what quality is called in the sentences, for example "bits per answer byte".
    """
    final = rule.order([point for point in points if not point.stopped])
    if not final:
        return None
    best = final[0]
    if not rule.within(best):
        why = (
            f"no value keeps held-out bits per byte within {rule.bound:.1%}: lambda {best.weight:g} forgets least, "
            f"{_signed(best.forgetting)}"
        )
        return Choice(best.weight, False, why, (f"{why}; raise instruct.replay_fraction, or lower the grid",))
    tied = [point for point in final if rule.within(point) and rule.tied(best, point)]
    chosen = min(tied, key=lambda point: (point.forgetting.value, point.weight))
    why = f"of the values within the bound of {rule.bound:.1%} on forgetting, lambda {best.weight:g} answers best"
    if chosen is not best:
        why += f", and lambda {chosen.weight:g} forgets less while its answers are as good up to one standard error"
    why += f": {_shown(chosen.quality)} {unit}, held-out bits per byte {_signed(chosen.forgetting)}"
    return Choice(chosen.weight, True, why, _edges(chosen.weight, points, rule))


def _edges(weight: float, points: Sequence[Point], rule: Rule) -> tuple[str, ...]:
    """A value at an end of the grid may not be the best there is; nor the smallest, where its answers are the best."""
    measured = [point for point in points if not point.diverged]
    best = min(measured, key=lambda point: (rule.worse(point.quality.value), point.weight))
    values = [point.weight for point in points]
    if weight == max(values):
        return (f"lambda {weight:g} is the largest of the grid; larger values may be better still",)
    if weight == min(values) == best.weight:
        return (f"lambda {weight:g} is the smallest of the grid; smaller values may be better still",)
    return ()


def _metric(found: Mapping[str, Any]) -> Metric:
    return Metric(math.nan if found["value"] is None else found["value"], found["stderr"], found["n"])


def _ratio(scores: Sequence[tuple[float, float]]) -> Metric:
    ratio = ClusterRatio()
    ratio.add([total for total, _ in scores], [weight for _, weight in scores])
    return ratio.metric()


def _shown(metric: Metric) -> str:
    return f"{metric.value:.3f}" + ("" if metric.stderr is None else f" ± {metric.stderr:.3f}")


def _signed(metric: Metric) -> str:
    return f"{100 * metric.value:+.2f}% ± {100 * (metric.stderr or 0.0):.2f}"
