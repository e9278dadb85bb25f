"""Runs one function over many tasks, in this process or in several, with the results in the order of the tasks.

Invariant: the results do not depend on the number of workers, and no worker outlives the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TypeVar

from groundup.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")


def ignore(task: object) -> None:
    """Nothing, when a task is done."""


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine; see `engines.Engine`."""

    workers: int = 0
    """0 or 1: tasks run in this process."""

    @property
    def apart(self) -> bool:
        """Whether tasks run in other processes than this one."""
        return self.workers > 1

    def run_all(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[Task], None] = ignore,
    ) -> list[Result]:
        """[function(task) for each task], calling `done(task)` here as each one ends.

        Raises what the function raises, and ResourceError when a worker process was killed.
        """
        if self.apart and len(tasks) > 1:
            return _run_in_processes(function, tasks, min(self.workers, len(tasks)), done)
        results = []
        for task in tasks:
            results.append(function(task))
            done(task)
        return results

    def where_worth(self, amount: int, least: int) -> LocalEngine:
        """This engine, or this process alone where `amount` is less than starting processes is worth."""
        return self if amount >= least else HERE


HERE = LocalEngine()
"""This process alone."""


def _run_in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, done: Callable[[Task], None]
) -> list[Result]:
    with _pool(workers) as pool:
        futures = {pool.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
        return [future.result() for future in futures]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with this one, and at once when an error ends the block."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent)
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool:
        raise ResourceError(
            f"a worker process was killed, perhaps for memory: set runtime.workers below {workers}; "
            "the same command goes on from what is finished"
        ) from None
    finally:  # after an error or Ctrl-C the tasks in flight are worth nothing: their parts are made anew
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
