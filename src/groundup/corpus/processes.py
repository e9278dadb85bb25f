"""Runs one function over many tasks, in this process or in several, with the results in the order of the tasks.

Invariant: the results do not depend on the number of workers, and no worker outlives the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, TypeVar

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


def run_in_order(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """function(task) for each task as it comes, in order, in `workers` processes that ran `initializer(*arguments)`.

    At most two tasks a worker wait, so memory does not grow with the number of tasks. Raises as `run_all`.
    """
    remaining = iter(tasks)
    with _pool(workers, initializer, arguments) as pool:
        waiting = deque(pool.submit(function, task) for task in islice(remaining, 2 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, task) for task in islice(remaining, 1))
            yield result


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
def _pool(
    workers: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with this one, and at once when an error ends the block."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(initializer, arguments))
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


def _begin(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    _follow_parent()
    if initializer:
        initializer(*arguments)


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
