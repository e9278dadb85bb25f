"""Ranks that a test starts: processes of one that has imported what they need, which costs each seconds otherwise."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

IMPORTED = ["pytest", "torch._dynamo", "torch.distributed.tensor.parallel", "groundup.pipeline", "tests.train.kinds"]
"""What the process that ranks are forked from imports once; it starts no thread and does nothing else."""


def run_ranks(work: Callable[..., None], ranks: int, *given: Any) -> None:
    """Call `work(rank, *given)` in as many processes; the first error of one of them is raised here.

    They see the environment as it was at the first call, and nothing else of this process.
    """
    multiprocessing.set_forkserver_preload(IMPORTED)
    torch.multiprocessing.start_processes(work, given, nprocs=ranks, start_method="forkserver")
