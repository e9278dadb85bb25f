"""Where the tasks of a stage run: in this process, in several, or on a Ray cluster (`runtime.data_engine`).

    tasks --Engine.run_all(function)--> results in the order of the tasks

Invariant: the engine changes only time and place. Tasks read and write files below folders that all workers see; what
is sent to a worker and comes back is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from groundup.corpus.engines.cluster import RayEngine
from groundup.corpus.engines.processes import LocalEngine, ignore

EngineName = Literal["local", "ray"]
Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs one function over many tasks."""

    @property
    def apart(self) -> bool:
        """Whether tasks run in other processes than this one."""

    def run_all(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], done: Callable[[Task], None] = ignore
    ) -> list[Result]:
        """[function(task) for each task], calling `done(task)` in this process as each one ends.

        `function`: at the top of a module, or a `functools.partial` of such a one. Raises what it raises, and
        ResourceError when workers were lost.
        """

    def where_worth(self, amount: int, least: int) -> Engine:
        """This engine, or a nearer one where `amount` is less than the start of workers is worth."""


def open_engine(
    name: EngineName, workers: int, ray_address: str, shared: Path
) -> AbstractContextManager[LocalEngine | RayEngine]:
    """The engine that `runtime:` names, until the block ends. `shared`: folder that the tasks' files lie below.

    Raises RecipeError when Ray is asked for and not installed.
    """
    return RayEngine(ray_address, workers, shared) if name == "ray" else nullcontext(LocalEngine(workers))
