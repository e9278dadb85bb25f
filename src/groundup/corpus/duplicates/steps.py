"""Steps over sorted runs: tasks over ranges of keys or over segments, in any number of processes, each resumable.

    runs on disk --a range of keys--> function(task, writers) --> runs on disk, and a closing file with what it tells

Invariant: a task's outputs depend on its inputs and the config only; a finished task is not done again after a kill.
What is sent to a process for a task is of one size, however many segments and files there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from groundup import stage
from groundup.config import digest, to_dict
from groundup.corpus.closing import finish, finished
from groundup.corpus.duplicates.runs import KeyRange, RunWriter, count_records, even_ranges
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.engines.engine import Engine
from groundup.corpus.segments import Segment, Store

_WORTH_PROCESSES_TASKS = 4
"""Starting worker processes takes about as long as fewer tasks."""
MERGED_FILES = 512
"""Each task looks into each file of its inputs, so more files than these are first merged, some at a time."""
_MERGED_AT_ONCE = 32
OWN_FILES = "own_files"
"""Key under which a function names the files that it wrote beside those of its writers."""


@dataclass(frozen=True)
class Common:
    """What all tasks of a step have in common."""

    store: Store
    config: DeduplicateConfig
    inputs: tuple[Path, ...]

    def write(self, folder: Path) -> Path:
        """Write it into `folder`, from where each process reads it once; returns the file, named by its content."""
        values = {
            "segments": [[str(s.folder), s.part, s.first, s.rows, s.priority, s.source] for s in self.store.segments],
            "config": to_dict(self.config),
            "inputs": [str(path) for path in self.inputs],
        }
        path = folder / f"common-{digest(values)}.json"
        if not path.exists():
            stage.write_text(path, json.dumps(values))
        return path


@lru_cache(maxsize=2)
def _read_common(path: Path) -> Common:
    values = json.loads(path.read_text(encoding="utf-8"))
    segments = tuple(Segment(Path(folder), *numbers) for folder, *numbers in values["segments"])
    config = DeduplicateConfig(**values["config"])
    return Common(Store(segments), config, tuple(map(Path, values["inputs"])))


@dataclass(frozen=True)
class Task:
    """A step's work on one range of keys or one segment."""

    name: str
    step: Step
    folder: Path
    common: Path
    low: int
    high: int

    @property
    def store(self) -> Store:
        """All segments."""
        return _read_common(self.common).store

    @property
    def config(self) -> DeduplicateConfig:
        """What counts as the same text."""
        return _read_common(self.common).config

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files of the records."""
        return _read_common(self.common).inputs

    def ranges(self) -> Iterator[KeyRange]:
        """Its records, in ranges that fit in memory."""
        yield from KeyRange.of(self.inputs, self.step.dtype, self.low, self.high).bounded()

    @property
    def segment(self) -> Segment:
        """The segment of a task over one."""
        return self.store.segment_with(self.low)

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
    engine: Engine

    def by_key(self, name: str, step: Step, inputs: Sequence[Path]) -> Done:
        """One task for each range of the keys of the inputs' records."""
        inputs = self.merged(name, step.dtype, inputs)
        return self._run(name, step, inputs, even_ranges(count_records(inputs, step.dtype)))

    def by_segment(self, name: str, step: Step, inputs: Sequence[Path]) -> Done:
        """One task for each segment, with the inputs' records whose keys are its documents."""
        inputs = self.merged(name, step.dtype, inputs)
        return self._run(name, step, inputs, [(s.first, s.first + s.rows) for s in self.store.segments])

    def merged(self, name: str, dtype: np.dtype[Any], inputs: Sequence[Path]) -> list[Path]:
        """The records of the inputs in at most MERGED_FILES files; one task for each file where there were more."""
        if len(inputs) <= MERGED_FILES:
            return list(inputs)
        size = max(_MERGED_AT_ONCE, -(-len(inputs) // MERGED_FILES))
        spans = [(first, min(first + size, len(inputs))) for first in range(0, len(inputs), size)]
        return self._run(f"{name}-merge", Step(_merge, dtype, {"sorted": dtype}), inputs, spans)["sorted"]

    def _run(self, name: str, step: Step, inputs: Sequence[Path], spans: Sequence[tuple[int, int]]) -> Done:
        self.folder.mkdir(parents=True, exist_ok=True)
        common = Common(self.store, self.config, tuple(inputs)).write(self.folder)
        tasks = [Task(f"{name}-{i:05d}", step, self.folder, common, *span) for i, span in enumerate(spans)]
        engine = self.engine.where_worth(len(tasks), _WORTH_PROCESSES_TASKS)
        return Done(engine.run_all(_run_task, tasks), tuple(task.target for task in tasks))


def _merge(task: Task, writers: Writers) -> dict[str, Any]:
    """Some of the inputs, by their places among them -> all their records in the order of keys."""
    for found in KeyRange.of(task.inputs[task.low : task.high], task.step.dtype).bounded():
        for piece in found.pieces():
            writers["sorted"].write(piece[np.argsort(piece["key"], kind="stable")])
    return {}


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
