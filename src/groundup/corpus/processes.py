"""Runs one function over many tasks, in this process or in several, with the results in the order of the tasks.

Invariant: the results do not depend on the number of workers, and no worker outlives the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from groundup.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, done: Callable[[Task], None]
) -> list[Result]:
    """[function(task) for each task], calling `done(task)` here as each one ends. `workers` 0 or 1: no processes.

    Raises what the function raises, and ResourceError when a worker process was killed.
    """
    if min(workers, len(tasks)) < 2:
        results = []
        for task in tasks:
            results.append(function(task))
            done(task)
        return results
    return _run_in_processes(function, tasks, min(workers, len(tasks)), done)


def _run_in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, done: Callable[[Task], None]
) -> list[Result]:
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        futures = {pool.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
        pool.shutdown()
        return [future.result() for future in futures]
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
