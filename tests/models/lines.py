"""Ranks that are threads of this process: each runs the same function with a line of its own to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from groundup.models.row_part import Way

Found = TypeVar("Found")


class Threads:
    """What the ranks of one line share."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=30)
        self.slots: list[Tensor] = [torch.empty(0)] * size

    def exchange(self, rank: int, tensor: Tensor) -> list[Tensor]:
        """What every rank brought to this meeting."""
        self.slots[rank] = tensor.detach().clone()
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found


class ThreadLine:
    """One rank's line; satisfies `groundup.models.row_part.Line`."""

    def __init__(self, threads: Threads, rank: int, size: int, way: Way) -> None:
        self.threads, self.rank, self.size, self.way = threads, rank, size, way

    def gather(self, tensor: Tensor) -> Tensor:
        found: Tensor = _Gather.apply(tensor, self)  # type: ignore[no-untyped-call]
        return found

    def pass_on(self, tensor: Tensor) -> Callable[[], Tensor]:
        found = self.threads.exchange(self.rank, tensor)
        return lambda: found[(self.rank - 1) % self.size]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, line: ThreadLine) -> Tensor:
        ctx.line = line
        return torch.stack(line.threads.exchange(line.rank, tensor))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        line: ThreadLine = ctx.line
        return torch.stack(line.threads.exchange(line.rank, gradient)).sum(0)[line.rank], None


def together(size: int, way: Way, of_rank: Callable[[ThreadLine], Found]) -> list[Found]:
    """What each of `size` ranks makes of its line."""
    threads = Threads(size)

    def run(rank: int) -> Found:
        torch.set_num_threads(1)
        try:
            return of_rank(ThreadLine(threads, rank, size, way))
        except BaseException:
            threads.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        broken = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
        if errors:
            raise (broken or errors)[0]
        return [future.result() for future in futures]
