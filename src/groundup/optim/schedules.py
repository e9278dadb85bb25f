"""Learning-rate schedules: (step, total steps) -> factor in 0 .. 1, a pure function, so a resume needs the step only.

    1    ____________            wsd: warm-up, stable, linear decay (Hu et al. 2024, arXiv 2404.06395)
        /            \\           cosine, linear: warm-up, then down over all the rest
       /              \\          constant: warm-up only
    0 /________________\\__

Invariant: step s trains with the factor at s; the warm-up starts above zero, and `final_fraction` is reached at
`total_steps`, one past the last step, so that no step is wasted on a rate of zero.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from groundup.config import Config


class _Warmup(Config):
    """What all schedules share."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up; the longer of this and warmup_fraction counts."""
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1)
    """Warm-up as a part of all steps."""


class ConstantConfig(_Warmup):
    """Full rate after the warm-up."""

    kind: Literal["constant"] = "constant"


class LinearConfig(_Warmup):
    """Straight down from the end of the warm-up to final_fraction."""

    kind: Literal["linear"] = "linear"
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Part of the full rate that is left at the end."""


class CosineConfig(_Warmup):
    """Half a cosine from the end of the warm-up to final_fraction (Loshchilov & Hutter 2017, arXiv 1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Part of the full rate that is left at the end."""


class WSDConfig(_Warmup):
    """Warm-up, stable, decay: full rate until the last decay_fraction of the steps, then straight down."""

    kind: Literal["wsd"] = "wsd"
    decay_fraction: float = Field(default=0.3, ge=0, le=1)
    """Part of all steps that decays (cut to what the warm-up leaves)."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Part of the full rate that is left at the end."""


ScheduleConfig = Annotated[WSDConfig | CosineConfig | LinearConfig | ConstantConfig, Field(discriminator="kind")]
"""Any schedule, told apart by `kind`."""


def learning_rate_factor(
    config: WSDConfig | CosineConfig | LinearConfig | ConstantConfig, step: int, total_steps: int
) -> float:
    """What the base learning rates are multiplied with at `step` (from 0); beyond `total_steps` the end value stays.

    Raises ValueError for a negative step or no steps at all.
    """
    if step < 0 or total_steps < 1:
        raise ValueError(f"step {step} of {total_steps}: steps count from 0, and there is at least one")
    warmup = max(config.warmup_steps, round(config.warmup_fraction * total_steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if isinstance(config, ConstantConfig):
        return 1.0
    start = warmup
    if isinstance(config, WSDConfig):
        start = max(warmup, total_steps - round(config.decay_fraction * total_steps))
    gone = min(max(0.0, (step - start) / max(1, total_steps - start)), 1.0)
    left = (1 + math.cos(math.pi * gone)) / 2 if isinstance(config, CosineConfig) else 1 - gone
    return config.final_fraction + (1 - config.final_fraction) * left
