"""Attempts at one phase: when each began, how it ended, what of its time was of use; and the end of a crash loop.

    logs/attempts.jsonl    {attempt, began, step, pid, host}  ...  {attempt, ended, step, seconds}
                           an attempt without a second line was killed: what it reached says its heartbeat and metrics

Invariant: the same step reached `limit` times in a row by attempts that ended without a reason that a person could act
on ends in CrashLoopError before any work; the command after that tries again. Logs are no state: no result has them.
"""

from __future__ import annotations

import calendar
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundup.errors import CrashLoopError, GroundupError, Interrupted
from groundup.log import JsonLines, read_lines
from groundup.parallel.ranks import is_of_contact
from groundup.train.guards import StopNow
from groundup.train.journal import Journal, number_of, step_of
from groundup.train.watchdog import HEARTBEATS

ATTEMPTS = "attempts.jsonl"
KILLED, HUNG, LOST, UNEXPECTED = "killed", "hung", "lost another rank", "unexpected error"
WITHOUT_REASON = (KILLED, HUNG, LOST, UNEXPECTED)
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_SHOWN = 50


class Attempts:
    """The attempts at a phase, this one the last of them. Made before anything of the phase is done.

    `writes`: on rank 0. Raises CrashLoopError when `limit` (0: never) attempts in a row ended at the same step without
    a reason.
    """

    def __init__(self, journal: Journal, limit: int, *, writes: bool = True) -> None:
        self._journal = journal
        path = journal.logs / ATTEMPTS
        self._lines = JsonLines(*([path] if writes else []))
        earlier = _joined(path) if writes else []
        if earlier and "ended" not in earlier[-1]:
            self._close(earlier[-1])
        self._earlier = earlier
        self.number = max((each["attempt"] for each in earlier), default=0) + 1
        self._about = {"began": _now(), "clock": _clock()}
        self._started = time.monotonic()
        self._begin(earlier)
        if limit and _in_a_row(earlier) >= limit:
            cause, step = earlier[-1]["ended"], step_of(earlier[-1])
            self.end("crash loop", step)
            raise CrashLoopError(
                f"{journal.phase} ended at step {step} in {limit} attempts in a row (last: {cause}); see"
                f" {journal.logs.name}/{ATTEMPTS}, less micro_batch_rows may help; the same command tries anew"
            )

    def _close(self, left: dict[str, Any]) -> None:
        """Write how an attempt ended that could not do so itself, from what it left."""
        beat = _heartbeat(self._journal.folder / HEARTBEATS)
        seconds = _seconds_between(left.get("began"), beat.get("time")) if beat.get("pid") == left.get("pid") else 0.0
        seconds = min(seconds, _elapsed(left, {"began": _now(), "clock": _clock()}))
        end = {"ended": KILLED, "step": self._journal.last_step(), "seconds": seconds}
        left |= end
        self._lines.write({"attempt": left["attempt"], **end})

    def _begin(self, earlier: list[dict[str, Any]]) -> None:
        about = {"attempt": self.number, **self._about, "pid": os.getpid(), "host": socket.gethostname()}
        self._lines.write(about)
        if earlier:
            last = earlier[-1]
            down = _elapsed(last, self._about) - number_of(last, "seconds")
            self._journal.event(
                "restarted",
                attempt=self.number,
                cause=last["ended"],
                step=step_of(last),
                down_seconds=round(max(down, 0.0), 1),
            )

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, the attempt is worked on; how it ends is recorded, whatever comes out of the block."""
        try:
            yield
        except (Interrupted, StopNow) as error:
            self.end("preempted" if error.exit_code == 75 else "interrupted")
            raise
        except GroundupError as error:
            self.end(f"{type(error).__name__} (exit code {error.exit_code})")
            raise
        except BaseException as error:
            self.end(LOST if is_of_contact(error) else UNEXPECTED)
            raise
        self.end("done")

    def end(self, cause: str, step: int | None = None) -> None:
        """Write how this attempt ended."""
        reached = self._journal.last_step() if step is None else step
        seconds = round(time.monotonic() - self._started, 3)
        self._lines.write({"attempt": self.number, "ended": cause, "step": reached, "seconds": seconds})

    def summary(self) -> dict[str, Any]:
        """Effective training time so far: seconds of steps that stayed over those since the first attempt began."""
        own = time.monotonic() - self._started
        worked = own + sum(number_of(each, "seconds") for each in self._earlier)
        first = self._earlier[0] if self._earlier else self._about
        # Between two boots only the wall clock goes on; where it was set back, the attempts' own time counts.
        wall = max(worked, _elapsed(first, self._about) + own)
        productive = min(self._journal.productive_seconds(), wall)
        ends = [
            {key: each.get(key) for key in ("attempt", "ended", "step", "seconds")} for each in self._earlier[-_SHOWN:]
        ]
        return {
            "attempts": self.number,
            "productive_seconds": round(productive, 3),
            "attempt_seconds": round(worked, 3),
            "wall_seconds": round(wall, 3),
            "effective_share": round(productive / max(wall, 1e-9), 4),
            "restarts": ends,
        }


def _joined(path: Path) -> list[dict[str, Any]]:
    """The lines of each attempt as one, in their order; what a damaged line does not say is left out."""
    found: dict[int, dict[str, Any]] = {}
    for line in read_lines(path):
        number = line.get("attempt")
        if isinstance(number, int):
            found.setdefault(number, {}).update(line)
    return list(found.values())


def _in_a_row(attempts: list[dict[str, Any]]) -> int:
    """How many of the last attempts ended at the same step without a reason."""
    count = 0
    for each in reversed(attempts):
        if each.get("ended") not in WITHOUT_REASON or step_of(each) != step_of(attempts[-1]):
            break
        count += 1
    return count


def _heartbeat(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "rank-0.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _now() -> str:
    return time.strftime(_STAMP, time.gmtime())


def _seconds_between(first: Any, last: Any) -> float:
    try:
        begin, end = (calendar.timegm(time.strptime(str(text), _STAMP)) for text in (first, last))
    except ValueError:
        return 0.0
    return float(max(end - begin, 0))


def _clock() -> dict[str, Any]:
    """Which boot of which machine this is, and its seconds since then: a clock that nobody sets."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return {}
    return {"boot": boot, "seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME), 1)}


def _elapsed(first: dict[str, Any], last: dict[str, Any]) -> float:
    """Seconds from the beginning of an attempt to that of another, or to now."""
    one, other = (clock if isinstance(clock := each.get("clock"), dict) else {} for each in (first, last))
    if one and other and one.get("boot") == other.get("boot"):
        return max(number_of(other, "seconds") - number_of(one, "seconds"), 0.0)
    return _seconds_between(first.get("began"), last.get("began"))
