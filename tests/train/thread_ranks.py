"""Ranks as threads of one process, for what ranks say to each other about checkpoints; no process group, no start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from groundup.optim import AdamWConfig, build_optimizer
from groundup.train import checkpoint, partition, writing
from groundup.train.state import TrainState

Found = TypeVar("Found")
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """What the code asks of a mesh over all ranks."""

    rank: int
    ranks: int

    def size(self) -> int:
        return self.ranks

    def get_rank(self) -> int:
        return self.rank


class Meeting:
    """Some ranks; `texts_of_all` of the package goes through it once it is `open`."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._barrier = threading.Barrier(ranks, timeout=TIMEOUT_SECONDS)
        self._said = [""] * ranks

    def open(self, patch: pytest.MonkeyPatch) -> Meeting:
        for module in (checkpoint, partition, writing):
            patch.setattr(module, "texts_of_all", self.texts_of_all)
        return self

    def texts_of_all(self, text: str, mesh: Any) -> list[str]:
        self._said[mesh.get_rank()] = text
        self._barrier.wait()
        heard = list(self._said)
        self._barrier.wait()
        return heard

    def all_do(self, act: Callable[[Any], Found]) -> list[Found]:
        """What each rank gets from `act(mesh)`; the first error is raised."""
        with ThreadPoolExecutor(self.ranks) as pool:
            return [done.result() for done in [pool.submit(act, Place(rank, self.ranks)) for rank in range(self.ranks)]]


def stage_of_pipeline(mesh: Any, salt: int = 0, steps: int = 1) -> TrainState:
    """A state of which each rank has a layer of its own, and all have the same norm."""
    model = nn.Module()
    others = range(mesh.size()) if mesh is not None else ()
    model.elsewhere = frozenset(f"layers.{rank}.weight" for rank in others if rank != mesh.get_rank())  # type: ignore[assignment]
    names = {f"layers.{mesh.get_rank()}.weight": (4, 3), "norm.weight": (6,)}
    parameters = {}
    for name, shape in names.items():
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(salt + len(name) + hash(shape) % 7))
        if name.startswith("layers"):
            numbers += mesh.get_rank()
        parameters[name] = nn.Parameter(numbers)
    optimizer = build_optimizer(AdamWConfig(learning_rate=0.1), parameters, set(), head_name="")
    for step in range(steps):
        for parameter in parameters.values():
            parameter.grad = parameter.detach().clone()
        optimizer.set_rate_factor(1.0, step)
        optimizer.step()
    return TrainState(model, optimizer, torch.device("cpu"), mesh, step=steps, kept=parameters)  # type: ignore[arg-type]
