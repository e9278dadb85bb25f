"""A phase's metrics and events: written to its stage folder, mirrored to the run folder that people look at.

Invariant: `metrics.jsonl` has one line per step and phase, without gaps; a resume takes back the lines of steps that it
will do again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.log import JsonLines, dispensable, read_lines, rewrite_lines
from groundup.stage import LOGS

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"


class Journal:
    """Where one phase writes what happened. `run_folder` None: only the stage folder (tests, trials).

    `writes` False: of all ranks only one writes, the others just read.
    """

    def __init__(self, phase: str, stage_folder: Path, run_folder: Path | None, writes: bool = True) -> None:
        self.phase, self.writes = phase, writes
        self._folders = [stage_folder / LOGS, *([run_folder] if run_folder else [])]
        self.logs = stage_folder / LOGS
        written = self._folders if writes else []
        self._metrics = JsonLines(*(folder / METRICS for folder in written))
        self._events = JsonLines(*(folder / EVENTS for folder in written))

    def metric(self, **values: Any) -> None:
        """Append one line of metrics."""
        self._metrics.write({"phase": self.phase, **values})

    def event(self, name: str, by_any_rank: bool = False, **values: Any) -> None:
        """Append one event with the wall-clock time at which it happened.

        `by_any_rank`: also where another rank writes, which cannot know of this.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        events = JsonLines(*(folder / EVENTS for folder in self._folders)) if by_any_rank else self._events
        events.write({"event": name, "time": now, "phase": self.phase, **values})

    @property
    def folder(self) -> Path:
        """Where people look: the run folder, or the stage's own logs."""
        return self._folders[-1]

    def last_step(self) -> int:
        """The last step that has a line; 0 without any."""
        return max((step_of(line) for line in read_lines(self.logs / METRICS)), default=0)

    def productive_seconds(self) -> float:
        """Seconds of the steps that have a line: what was done again or lost does not count."""
        found = 0.0
        for line in read_lines(self.logs / METRICS):
            step, rate = step_of(line), number_of(line, "tokens_per_second")
            found += number_of(line, "tokens_seen") / step / rate if rate and step else 0.0
        return found

    def announced_checkpoint(self) -> bool:
        """True when an earlier attempt said that it saved a checkpoint."""
        return any(event.get("event") == "checkpoint_saved" for event in read_lines(self._folders[0] / EVENTS))

    def take_back_after(self, step: int) -> float:
        """Remove the lines of steps beyond `step`, which will be written again; returns the seconds up to it."""
        if not self.writes:
            return 0.0
        own = [line for line in read_lines(self._folders[0] / METRICS) if step_of(line) <= step]
        rewrite_lines(self._folders[0] / METRICS, own)
        for folder in self._folders[1:]:
            with dispensable(folder / METRICS):
                others = [line for line in read_lines(folder / METRICS) if line.get("phase") != self.phase]
                rewrite_lines(folder / METRICS, others + own)
        return max((number_of(line, "seconds") for line in own), default=0.0)


def number_of(line: Mapping[str, Any], key: str) -> float:
    """A number of a line; 0 where it is missing or none: a log that is damaged must not end a training."""
    found = line.get(key)
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else 0.0


def step_of(line: Mapping[str, Any]) -> int:
    """The step that a line is about, 0 where it does not say."""
    return int(number_of(line, "step"))


def publish(stage_folders: list[Path], run_folder: Path) -> None:
    """Make the run folder's metrics and events from those of its training stages, in their order."""
    for name in (METRICS, EVENTS):
        lines: list[Mapping[str, Any]] = [line for folder in stage_folders for line in read_lines(folder / LOGS / name)]
        with dispensable(run_folder / name):
            rewrite_lines(run_folder / name, [dict(line) for line in lines])
