"""Rotary positions: positions of tokens -> cosines and sines of their angles, also stretched for longer contexts.

    theta --frequencies--> 1 / theta^(2 i / head_dim) --scaling: linear, dynamic, yarn, llama3--> angles of a position

Invariant: the same numbers as transformers gives for the same `rope_parameters`; float32, no buffers.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from groundup.config import Config

Rotation = tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]
"""Cosines and sines of all angles, float32; `batch` is the number of rows, or 1 where all have the same positions."""


class LinearScaling(Config):
    """All angles divided by a factor (Chen et al. 2023, arXiv 2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: float = Field(default=1.0, ge=1)
    """How many times longer the context becomes."""


class DynamicScaling(Config):
    """A larger base once a text is longer than the model's context; the same as no scaling up to there."""

    kind: Literal["dynamic"] = "dynamic"
    factor: float = Field(default=1.0, ge=1)
    """How fast the base grows with the length of the text."""


class YarnScaling(Config):
    """Slow angles divided by a factor, fast ones left, attention sharpened (Peng et al. 2023, arXiv 2309.00071)."""

    kind: Literal["yarn"] = "yarn"
    factor: float = Field(default=1.0, ge=1)
    """How many times longer the context becomes."""
    original_context_length: int | None = Field(default=None, ge=2)
    """Context of the model before it was stretched; context_length when not given."""
    beta_fast: float = Field(default=32.0, gt=0)
    """Angles that turn more often than this within the original context are left as they are."""
    beta_slow: float = Field(default=1.0, gt=0)
    """Angles that turn less often than this are divided by the whole factor."""
    attention_factor: float | None = Field(default=None, gt=0)
    """What cosines and sines are multiplied by; 0.1 ln(factor) + 1 when not given."""
    truncate: bool = True
    """Round the borders between fast and slow angles to whole numbers."""


class Llama3Scaling(Config):
    """Slow angles divided by a factor, fast ones left, as Llama 3.1 does it."""

    kind: Literal["llama3"] = "llama3"
    factor: float = Field(default=1.0, ge=1)
    """How many times longer the context becomes."""
    original_context_length: int | None = Field(default=None, ge=2)
    """Context of the model before it was stretched; context_length when not given."""
    low_freq_factor: float = Field(default=1.0, gt=0)
    """Waves longer than original_context_length / low_freq_factor are divided by the whole factor."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """Waves shorter than original_context_length / high_freq_factor are left as they are."""

    @model_validator(mode="after")
    def _ordered(self) -> Llama3Scaling:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor {self.high_freq_factor} is not above low_freq_factor {self.low_freq_factor}; "
                "waves between the two are blended"
            )
        return self


RopeScaling = Annotated[
    LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling,
    Field(discriminator="kind"),
]


def rotation(positions: Int[Tensor, "batch time"], head_dim: int, theta: float) -> Rotation:
    """Cosine and sine of the rotary angles `position * theta^(-2 i / head_dim)` (Su et al. 2021, arXiv 2104.09864)."""
    return turned(positions, frequencies(head_dim, theta, positions.device), 1.0)


def scaled_rotation(
    positions: Int[Tensor, "batch time"],
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None,
    *,
    context_length: int,
    length: int,
) -> Rotation:
    """As `rotation`, stretched; `length`: tokens of the text so far, which only dynamic scaling looks at."""
    device, factor = positions.device, 1.0
    if isinstance(scaling, DynamicScaling):
        excess = scaling.factor * max(length, context_length) / context_length - (scaling.factor - 1)
        # With heads of width 2 there is one angle, of frequency 1 whatever the base.
        theta = theta * excess ** (head_dim / (head_dim - 2)) if head_dim > 2 else theta
    by_dim = frequencies(head_dim, theta, device)
    if isinstance(scaling, LinearScaling):
        by_dim = by_dim / scaling.factor
    elif isinstance(scaling, YarnScaling):
        by_dim, factor = _yarn(by_dim, head_dim, theta, scaling, scaling.original_context_length or context_length)
    elif isinstance(scaling, Llama3Scaling):
        by_dim = llama3(by_dim, scaling, scaling.original_context_length or context_length)
    return turned(positions, by_dim, factor)


def frequencies(head_dim: int, theta: float, device: torch.device) -> Float[Tensor, " half"]:
    """Angles by which one position differs from the next, fastest first."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    return 1.0 / theta**exponents


def turned(positions: Int[Tensor, "batch time"], by_dim: Float[Tensor, " half"], factor: float) -> Rotation:
    """Cosines and sines of `positions * by_dim`, times `factor`."""
    angles = positions[:, None, :, None].float() * by_dim
    return (angles.cos(), angles.sin()) if factor == 1.0 else (angles.cos() * factor, angles.sin() * factor)


def _yarn(
    by_dim: Float[Tensor, " half"], head_dim: int, theta: float, scaling: YarnScaling, original_length: int
) -> tuple[Float[Tensor, " half"], float]:
    def border(turns: float) -> float:
        """The place among the angles of the one that turns so often within the original context."""
        ratio = original_length / (turns * 2 * math.pi)
        return head_dim * math.log(ratio) / (2 * math.log(theta))

    low, high = border(scaling.beta_fast), border(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    places = torch.arange(head_dim // 2, dtype=torch.float32, device=by_dim.device)
    slow = ((places - low) / ((high - low) or 0.001)).clamp(0, 1)
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1.0
    return by_dim / scaling.factor * slow + by_dim * (1 - slow), factor


def llama3(by_dim: Float[Tensor, " half"], scaling: Llama3Scaling, original_length: int) -> Float[Tensor, " half"]:
    """The angles of `frequencies` stretched as Llama 3.1 has it."""
    waves = 2 * math.pi / by_dim
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share = (original_length / waves - low) / (high - low)
    blended = (1 - share) * by_dim / scaling.factor + share * by_dim
    slow = waves > original_length / low
    fast = waves < original_length / high
    return torch.where(slow, by_dim / scaling.factor, torch.where(fast, by_dim, blended))


def rotate(x: Float[Tensor, "rows heads time head_dim"], by: Rotation) -> Float[Tensor, "rows heads time head_dim"]:
    """Turn the pairs (i, i + head_dim/2) of `x` by their angles: the half-split layout of Hugging Face's Llama."""
    cosines, sines = by
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).to(x.dtype)


def sinusoids(positions: Int[Tensor, "batch time"], size: int) -> Float[Tensor, "batch time size"]:
    """Fixed waves of each position, sines then cosines (Vaswani et al. 2017, arXiv 1706.03762).

    As tensor2tensor and transformers' XGLM have them: wavelengths from 2 pi to 10000 * 2 pi, both included, the first
    position is 2, and an odd size ends with a zero.
    """
    half = size // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32)
    rates = torch.exp(steps * -(math.log(10_000) / max(half - 1, 1)))
    angles = (positions + 2)[..., None].float() * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=-1)
    return torch.nn.functional.pad(waves, (0, size % 2))
