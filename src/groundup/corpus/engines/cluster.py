"""Tasks of the stages on a Ray cluster, by Ray Data; the files between them lie in a folder that all nodes share.

    tasks --bundles of neighbours, a row each--> Ray Data, flat_map(function) --rows as they end--> results in order

Ray is loaded and started (or asked at `runtime.ray_address`) when the first tasks come, and left when the stage ends.
Invariant: errors of the function are raised as they are in a process of one's own; what Ray itself cannot do is a
ResourceError.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from groundup.corpus.engines.cluster_nodes import check_nodes
from groundup.corpus.engines.processes import ignore
from groundup.corpus.optional import load, require
from groundup.errors import ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")

ROWS_OF_A_CPU = 32
"""So many bundles of tasks wait for each processor: enough to be even, few enough for Ray's own bookkeeping."""
_ATTEMPTS = 4
_REACH_SECONDS = 10
_WHAT = "runtime.data_engine: ray"


@dataclass(frozen=True)
class Carried:
    """What a row of Ray Data holds as it is: tasks, or a task's result or error."""

    value: Any = None
    error: Exception | None = None


class RayEngine:
    """The processors of a Ray cluster, until the block ends; see `engines.Engine`."""

    def __init__(self, address: str, workers: int, shared: Path) -> None:
        """`address`: of a running cluster; empty: one of this machine with `workers` processors (at least one).

        Raises RecipeError when Ray is not installed.
        """
        require("ray", _WHAT, "ray")
        self._address, self._workers, self._marks = address, max(1, workers), shared / "ray"
        self._closing = ExitStack()
        self._ray: Any = None

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray = None
        self._closing.close()

    @property
    def apart(self) -> bool:
        """Whether tasks run in other processes than this one."""
        return True

    def run_all(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[Task], None] = ignore,
    ) -> list[Result]:
        """[function(task) for each task], calling `done(task)` here as each one ends.

        A worker that was killed is replaced, and what it held is done again. Raises what the function raises;
        ResourceError when workers are lost again and again, no cluster answers, or a node does not see the files.
        """
        if not tasks:
            return []
        ray = self._started()
        processors = int(ray.cluster_resources().get("CPU", 1))
        size = -(-len(tasks) // (ROWS_OF_A_CPU * processors))
        rows = [{"first": first, "tasks": Carried(tasks[first : first + size])} for first in range(0, len(tasks), size)]
        given = ray.data.from_items(rows, override_num_blocks=len(rows))
        perform = partial(_perform, function, os.getcwd(), self._marks / uuid.uuid4().hex)
        results: dict[int, Result] = {}
        with _ray_errors(ray):
            for row in given.flat_map(perform, num_cpus=1).iter_rows():
                outcome = row["outcome"]
                if outcome.error is not None:
                    raise outcome.error
                results[row["number"]] = outcome.value
                done(tasks[row["number"]])
        return [results[number] for number in range(len(tasks))]

    def where_worth(self, amount: int, least: int) -> RayEngine:
        """This engine: the machine that asks may be too small for any of the work."""
        return self

    def _started(self) -> Any:
        """The package ray, connected, with all nodes checked."""
        if self._ray is None:
            ray = load("ray", _WHAT, "ray")
            load("ray.data", _WHAT, "ray")
            _connect(ray, self._address, self._workers, self._closing)
            shutil.rmtree(self._marks, ignore_errors=True)
            self._marks.mkdir(parents=True)
            self._closing.callback(shutil.rmtree, self._marks, ignore_errors=True)
            check_nodes(ray, self._marks)
            self._ray = ray
        return self._ray


def _connect(ray: Any, address: str, workers: int, closing: ExitStack) -> None:
    """Start or join a cluster, quietly; `closing` gets what leaves it again."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a cluster that is started here reports to nobody
    if address:
        options: dict[str, Any] = {"address": address}
    else:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="groundup-", ignore_cleanup_errors=True))
        options = {"address": "local", "num_cpus": workers, "include_dashboard": False, "_temp_dir": folder}
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        closing.callback(ray.shutdown)
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:60] if str(error).strip() else type(error).__name__
        where = f"runtime.ray_address '{address[:40]}'" if address else "a local Ray"
        raise ResourceError(
            f"{where} cannot be used ({reason}): start it with `ray start`, or take runtime.data_engine: local",
            details=[str(error)],
        ) from None
    finally:  # ray takes the signal over in the main thread
        if threading.current_thread() is threading.main_thread() and on_termination is not None:
            signal.signal(signal.SIGTERM, on_termination)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at `host:port`; Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()


@contextmanager
def _ray_errors(ray: Any) -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ResourceError(
            f"Ray cannot go on ({type(error).__name__}): see its logs; the same command goes on from what is done",
            details=[last],
        ) from error


def _perform(
    function: Callable[[Any], Any], folder: str, marks: Path, row: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """On a worker: result or error of each task of a row, up to the first that fails.

    Ray gives the row of a killed worker to another one, without end; `marks` tells how often.
    """
    os.chdir(folder)
    marks.mkdir(exist_ok=True)
    mark = marks / str(row["first"])
    with mark.open("ab") as file:
        file.write(b"x")
        attempt = file.tell()
    if attempt > _ATTEMPTS:
        yield {"number": row["first"], "outcome": Carried(error=_lost())}
        return
    yield from _outcomes(function, row)
    mark.unlink(missing_ok=True)


def _lost() -> ResourceError:
    return ResourceError(
        f"Ray's workers were killed {_ATTEMPTS} times over one task, perhaps for memory: give each more of it (fewer "
        "processors a node); the same command goes on from what is finished"
    )


def _outcomes(function: Callable[[Any], Any], row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for number, task in enumerate(row["tasks"].value, row["first"]):
        try:
            outcome = Carried(function(task))
        except Exception as error:
            yield {"number": number, "outcome": Carried(error=_sendable(error))}
            return
        yield {"number": number, "outcome": outcome}


def _sendable(error: Exception) -> Exception:
    """The error with its way on the worker, or its text where it cannot be made anew elsewhere."""
    way = "".join(traceback.format_exception(error))
    error.add_note(f"on a Ray worker:\n{way}")
    try:
        copy.copy(error)
    except Exception:
        return RuntimeError(way)
    return error
