"""Steps over sorted runs: tasks over ranges of keys or over segments, in any number of processes, each resumable.

    runs on disk --a range of keys--> function(task, writers) --> runs on disk, and a closing file with what it tells

Invariant: a task's outputs depend on its inputs and the config only; a finished task is not done again after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from groundup.corpus.closing import finish, finished
from groundup.corpus.processes import run_all
from groundup.corpus.runs import KeyRange, RunWriter, count_records, even_ranges
from groundup.corpus.segments import Segment, Store
from groundup.corpus.signatures import DeduplicateConfig

_WORTH_PROCESSES_TASKS = 4
"""Starting worker processes takes about as long as fewer tasks."""
OWN_FILES = "own_files"
"""Key under which a function names the files that it wrote beside those of its writers."""


@dataclass(frozen=True)
class Task:
    """A step's work on one range of keys or one segment."""

    name: str
    step: Step
    folder: Path
    store: Store
    config: DeduplicateConfig
    inputs: tuple[Path, ...]
    low: int
    high: int

    def ranges(self) -> Iterator[KeyRange]:
        """Its records, in ranges that fit in memory."""
        yield from KeyRange.of(self.inputs, self.step.dtype, self.low, self.high).bounded()

    @property
    def segment(self) -> Segment:
        """The segment of a task over one."""
        return next(segment for segment in self.store.segments if segment.first == self.low)

    @property
    def target(self) -> Path:
        """Beginning of the names of its own files."""
        return self.folder / self.name


Writers = Mapping[str, RunWriter]
Function = Callable[[Task, Writers], dict[str, Any]]
"""Writes the records that follow from a task's to the writers of its step's outputs; returns what it tells."""


@dataclass(frozen=True)
class Step:
    """What is done with records: a function at the top of a module, the records it takes, the records it gives."""

    function: Function
    dtype: np.dtype[Any]
    outputs: Mapping[str, np.dtype[Any]]


@dataclass(frozen=True)
class Done:
    """A finished step."""

    stats: list[dict[str, Any]]
    """What its tasks told."""
    targets: tuple[Path, ...]
    """Beginnings of the names of its tasks' files."""

    def __getitem__(self, output: str) -> list[Path]:
        """The files of one output."""
        return [target.with_name(f"{target.name}.{output}") for target in self.targets]


@dataclass(frozen=True)
class Steps:
    """Runs steps over the segments of a corpus, with their files in `folder`."""

    store: Store
    config: DeduplicateConfig
    folder: Path
    workers: int

    def by_key(self, name: str, step: Step, inputs: Sequence[Path]) -> Done:
        """One task for each range of the keys of the inputs' records."""
        return self._run(name, step, inputs, even_ranges(count_records(inputs, step.dtype)))

    def by_segment(self, name: str, step: Step, inputs: Sequence[Path]) -> Done:
        """One task for each segment, with the inputs' records whose keys are its documents."""
        return self._run(name, step, inputs, [(s.first, s.first + s.rows) for s in self.store.segments])

    def _run(self, name: str, step: Step, inputs: Sequence[Path], spans: Sequence[tuple[int, int]]) -> Done:
        self.folder.mkdir(parents=True, exist_ok=True)
        tasks = [
            Task(f"{name}-{i:05d}", step, self.folder, self.store, self.config, tuple(inputs), *span)
            for i, span in enumerate(spans)
        ]
        workers = self.workers if len(tasks) >= _WORTH_PROCESSES_TASKS else 0
        return Done(run_all(_run_task, tasks, workers, lambda task: None), tuple(task.target for task in tasks))


def _run_task(task: Task) -> dict[str, Any]:
    """What a task's function tells, with its outputs written; at once where an earlier attempt finished it."""
    marker = f"{task.name}.json"
    done = finished(task.folder, marker)
    if done:
        return done
    with ExitStack() as stack:
        writers = {
            output: stack.enter_context(RunWriter(task.folder / f"{task.name}.{output}", dtype))
            for output, dtype in task.step.outputs.items()
        }
        stats = task.step.function(task, writers)
    names = [writer.path.name for writer in writers.values()] + stats.pop(OWN_FILES, [])
    return finish(task.folder, marker, stats, names)
