"""The running average of the weights, and the weights that are meant for use while others are trained.

    w         what the optimizer moves
    average   d * average + (1 - d) * w after each step, d = min(decay, (1 + step) / (10 + step)): first it learns fast

Invariant: inside `weights_for_use` the model holds what will be used; afterwards the trained weights, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from groundup.config import Config
from groundup.optim import Optimizer


class AverageConfig(Config):
    """Validate, keep and export the running mean of the weights instead of the last ones (Polyak & Juditsky 1992)."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Part of the average that stays at each step, once some steps are done."""


class WeightAverage:
    """The average of some parameters; it begins as their values after the first step."""

    def __init__(self, config: AverageConfig, parameters: Mapping[str, Tensor]) -> None:
        self.decay = config.decay
        self.parameters = dict(parameters)
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        if not self.values:
            self.values = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(list(self.values.values()), [self.parameters[name] for name in self.values], 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters hold the average."""
        if not self.values:
            yield
            return
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        try:
            self._put(self.values)
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])


@contextmanager
def weights_for_use(optimizer: Optimizer, average: WeightAverage | None) -> Iterator[None]:
    """Inside, the model's parameters are those meant for use: averaged by the optimizer's rule, or by `average`."""
    with optimizer.averaged(), average.in_place() if average is not None else nullcontext():
        yield
