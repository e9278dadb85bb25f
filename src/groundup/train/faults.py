"""Faults on purpose, for tests of everything that survives them: `crash@3,nan_loss@7` -> what happens to which step.

    crash@N  hang@N  oom@N  nan_loss@N  nan_grad@N  inf_grad@N            at the N-th step, once a process
    spike@N  bitflip_param@N
    slow_step=MS  slow_io=MS                                              at every step, at every file saved
    ...@N:rankR                                                           on that rank only

Invariant: the loop asks this object, and it acts from outside: neither the step nor a model knows of it.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from groundup.errors import RecipeError
from groundup.log import logger
from groundup.parallel import shard
from groundup.train.state import TrainState

AT_A_STEP = ("crash", "hang", "oom", "nan_loss", "nan_grad", "inf_grad", "spike", "bitflip_param")
EVERY_TIME = ("slow_step", "slow_io")
_FAULT = re.compile(r"(?P<kind>[a-z_]+)(?:@(?P<step>\d{1,9})|=(?P<milliseconds>\d{1,9}))(?::rank(?P<rank>\d{1,6}))?")
_FLIPPED_BIT = 1 << 22
"""The highest bit of a float32's fraction: a change of up to half the value."""


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the step (or milliseconds) it is about, and the rank it happens on (None: all)."""

    kind: str
    amount: int
    rank: int | None = None


def parse_faults(text: str) -> tuple[Fault, ...]:
    """What FAULT says, separated by commas. Raises RecipeError naming the part that is no fault."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _FAULT.fullmatch(part)
        kind = match["kind"] if match else ""
        if match is None or kind not in (AT_A_STEP if match["step"] is not None else EVERY_TIME):
            known = ", ".join([*(f"{name}@N" for name in AT_A_STEP), *(f"{name}=MS" for name in EVERY_TIME)])
            raise RecipeError(f"FAULT: {part[:40]!r} is no fault; known: {known}")
        rank = None if match["rank"] is None else int(match["rank"])
        found.append(Fault(kind, int(match["step"] or match["milliseconds"]), rank))
    return tuple(found)


class Faults:
    """The faults of one process that are still to happen."""

    def __init__(self, faults: tuple[Fault, ...] = (), rank: int = 0) -> None:
        self._left = [fault for fault in faults if fault.rank in (None, rank)]

    def before_step(self, state: TrainState) -> None:
        """What happens to the process, or to a parameter, ahead of the step that comes."""
        step = state.step + 1
        self._wait("slow_step")
        if self._take("bitflip_param", step):
            _flip_bit(next(iter(state.model.parameters())))
        if self._take("crash", step):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._take("hang", step):
            while True:
                time.sleep(3600)

    @contextmanager
    def during_step(self, state: TrainState) -> Iterator[None]:
        """Inside, the model gives what the faults of this step ask for."""
        step = state.step + 1
        hooks = [_HOOKS[kind] for kind in _HOOKS if self._take(kind, step)]
        handles = [module.register_forward_hook(hook) for module in state.scored_by for hook in hooks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def before_write(self) -> None:
        """Ahead of each file of a checkpoint."""
        self._wait("slow_io")

    def _take(self, kind: str, step: int) -> bool:
        fault = next((each for each in self._left if each.kind == kind and each.amount == step), None)
        if fault is None:
            return False
        self._left.remove(fault)
        logger.warning(f"FAULT: {kind} at step {step}, as asked for")
        return True

    def _wait(self, kind: str) -> None:
        for fault in self._left:
            if fault.kind == kind:
                time.sleep(fault.amount / 1000)


@torch.no_grad()
def _flip_bit(parameter: Tensor) -> None:
    local = shard.local_tensor(parameter).view(-1)
    if local.numel():
        local[:1].view(torch.int32).bitwise_xor_(_FLIPPED_BIT)


class _SpoiltGradient(torch.autograd.Function):
    """Its input going forward; its gradient times a number going back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _spoilt(factor: float) -> Any:
    def hook(model: Any, inputs: Any, outputs: Any) -> Any:
        return _SpoiltGradient.apply(outputs[0], factor), *outputs[1:]  # type: ignore[no-untyped-call]

    return hook


def _without_loss(model: Any, inputs: Any, outputs: Any) -> Any:
    return outputs[0] * math.nan, *outputs[1:]


def _jumping_loss(model: Any, inputs: Any, outputs: Any) -> Any:
    return outputs[0] * 1000.0, *outputs[1:]


def _out_of_memory(model: Any, inputs: Any, outputs: Any) -> Any:
    raise torch.OutOfMemoryError("out of memory, as FAULT asks for")


_HOOKS = {
    "nan_loss": _without_loss,
    "spike": _jumping_loss,
    "nan_grad": _spoilt(math.nan),
    "inf_grad": _spoilt(math.inf),
    "oom": _out_of_memory,
}
