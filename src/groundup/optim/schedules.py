"""Learning-rate schedules: (step, total steps) -> factor in 0 .. 1, a pure function, so a resume needs the step only.

    1    ____________            wsd: warm-up, stable, linear decay (Hu et al. 2024, arXiv 2404.06395)
        /            \\           cosine, linear: warm-up, then down over all the rest
       /              \\          inverse_square_root: warm-up, then down as 1 / sqrt(step), whatever the total
    0 /________________\\__       one_cycle: a long half cosine up, a longer one down; constant: warm-up only
                                 reduce_on_plateau: warm-up, then a factor less each time validation stops to improve,
                                 a pure function of the step and the validations recorded so far

Invariant: step s trains with the factor at s; the warm-up starts above zero, and `final_fraction` is reached at
`total_steps`, one past the last step, so that no step is wasted on a rate of zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from groundup.config import Config

Validations = Sequence[tuple[int, float]]
"""(steps done, loss on held-out text) of each validation so far, in order."""


class Schedule(Config):
    """What all schedules share: a linear warm-up, and a course after it."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up; the longer of this and warmup_fraction counts."""
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1)
    """Warm-up as a part of all steps."""

    def warmup(self, total_steps: int) -> int:
        """Steps of warm-up."""
        return max(self.warmup_steps, round(self.warmup_fraction * total_steps))

    def rising(self, part: float) -> float:
        """Factor when this part (above 0, below 1) of the warm-up is done."""
        return part

    def after_warmup(self, step: int, total_steps: int, validations: Validations) -> float:
        """Factor at a step that the warm-up is over at."""
        raise NotImplementedError


class ConstantConfig(Schedule):
    """Full rate after the warm-up."""

    kind: Literal["constant"] = "constant"

    def after_warmup(self, step: int, total_steps: int, validations: Validations) -> float:
        """1."""
        return 1.0


class _Falling(Schedule):
    """Down to a part of the full rate, which is reached at `total_steps`."""

    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Part of the full rate that is left at the end."""

    def start_of_fall(self, total_steps: int) -> int:
        """First step below the full rate, or the one before it."""
        return self.warmup(total_steps)

    def left(self, gone: float) -> float:
        """Part of the way down that is still to go, when the part `gone` of its steps is done."""
        return 1 - gone

    def after_warmup(self, step: int, total_steps: int, validations: Validations) -> float:
        """Full rate, then down."""
        start = self.start_of_fall(total_steps)
        gone = min(max(0.0, (step - start) / max(1, total_steps - start)), 1.0)
        return self.final_fraction + (1 - self.final_fraction) * self.left(gone)


class LinearConfig(_Falling):
    """Straight down from the end of the warm-up to final_fraction."""

    kind: Literal["linear"] = "linear"


class CosineConfig(_Falling):
    """Half a cosine from the end of the warm-up to final_fraction (Loshchilov & Hutter 2017, arXiv 1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Part of the full rate that is left at the end."""

    def left(self, gone: float) -> float:
        """Half a cosine."""
        return _half_cosine(gone)


class OneCycleConfig(_Falling):
    """Half a cosine up and half a cosine down (Smith & Topin 2018, arXiv 1708.07120)."""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: float = Field(default=0.3, ge=0, lt=1)
    """The way up as a part of all steps."""
    initial_fraction: float = Field(default=0.04, gt=0, le=1)
    """Part of the full rate that the way up starts from."""
    final_fraction: float = Field(default=4e-6, ge=0, le=1)
    """Part of the full rate that is left at the end."""

    def rising(self, part: float) -> float:
        """Half a cosine from initial_fraction."""
        return self.initial_fraction + (1 - self.initial_fraction) * (1 - _half_cosine(part))

    def left(self, gone: float) -> float:
        """Half a cosine."""
        return _half_cosine(gone)


class WSDConfig(_Falling):
    """Warm-up, stable, decay: full rate until the last decay_fraction of the steps, then straight down."""

    kind: Literal["wsd"] = "wsd"
    decay_fraction: float = Field(default=0.3, ge=0, le=1)
    """Part of all steps that decays (cut to what the warm-up leaves)."""

    def start_of_fall(self, total_steps: int) -> int:
        """Where the decay begins."""
        return max(self.warmup(total_steps), total_steps - round(self.decay_fraction * total_steps))


class InverseSquareRootConfig(Schedule):
    """Down as 1 / sqrt(step) after the warm-up, whatever the total (Vaswani et al. 2017, arXiv 1706.03762)."""

    kind: Literal["inverse_square_root"] = "inverse_square_root"
    timescale_steps: int = Field(default=0, ge=0)
    """The rate is halved when three times so many steps have gone since the warm-up (0: as many as it had)."""

    def after_warmup(self, step: int, total_steps: int, validations: Validations) -> float:
        """sqrt(timescale / (timescale + steps since the warm-up))."""
        warmup = self.warmup(total_steps)
        timescale = self.timescale_steps or max(1, warmup)
        return math.sqrt(timescale / (timescale + step - warmup))


class PlateauConfig(Schedule):
    """A factor less each time that validation has not improved for `patience` times; needs `validation`."""

    kind: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    """What the rate is multiplied with."""
    patience: int = Field(default=2, ge=0)
    """Validations in a row without improvement that are let pass."""
    min_improvement: float = Field(default=1e-4, ge=0, lt=1)
    """Part of the best loss that a loss must lie below it to be an improvement."""
    cooldown: int = Field(default=0, ge=0)
    """Validations after a reduction that are not counted."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """The rate never falls below this part of the full one."""

    def after_warmup(self, step: int, total_steps: int, validations: Validations) -> float:
        """`factor` to the power of the reductions; the rule of torch's ReduceLROnPlateau over the losses up to here."""
        best, bad, cooling, rate = math.inf, 0, 0, 1.0
        for at, loss in validations:
            if at > step:
                break
            if loss < best * (1 - self.min_improvement):
                best, bad = loss, 0
            else:
                bad += 1
            if cooling > 0:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                rate, cooling, bad = max(rate * self.factor, self.final_fraction), self.cooldown, 0
        return rate


def _half_cosine(part: float) -> float:
    """From 1 at part 0 to 0 at part 1."""
    return (1 + math.cos(math.pi * part)) / 2


ScheduleConfig = Annotated[
    WSDConfig | CosineConfig | LinearConfig | ConstantConfig | InverseSquareRootConfig | OneCycleConfig | PlateauConfig,
    Field(discriminator="kind"),
]
"""Any schedule, told apart by `kind`."""


def learning_rate_factor(config: Schedule, step: int, total_steps: int, validations: Validations = ()) -> float:
    """What the base learning rates are multiplied with at `step` (from 0); beyond `total_steps` the end value stays.

    `validations` count for `reduce_on_plateau` only. Raises ValueError for a negative step or no steps at all.
    """
    if step < 0 or total_steps < 1:
        raise ValueError(f"step {step} of {total_steps}: steps count from 0, and there is at least one")
    warmup = config.warmup(total_steps)
    if step < warmup:
        return config.rising((step + 1) / (warmup + 1))
    return config.after_warmup(step, total_steps, validations)
