"""Who does what since when: a heartbeat file per rank, and an end to a run that hangs.

    with watchdog.section("step", 7): ...            the loop says what it is at
    heartbeats/rank-0.json                           {rank, host, pid, phase, section, step, section_seconds, time,
                                                     beats}, of several ranks also {at, waits, samples, waiting}
    longer than its time-out -> stacks of all threads to the log and stacks-rank-0.txt, event `watchdog`, exit code 6
    of several ranks         -> the one for which the others wait is named; also where it is only slow (`straggler`)

Time is counted in ticks of the thread, each at most two intervals long: a process that was stopped and goes on, a
suspended laptop or a clock that jumps make no hang. Invariant: a section that returns in time is never disturbed.
A hang that keeps the interpreter's lock cannot be answered from inside; it shows by a heartbeat that grows old, and the
other ranks' watchdogs say so.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from groundup.errors import GroundupError, HungError
from groundup.log import logger
from groundup.train.neighbours import ENDED, Stragglers, culprits, read_beats, whereabouts

HEARTBEATS = "heartbeats"
TICK_SECONDS = 1.0
LOOK_SECONDS = 0.1
"""Time between two looks at what the training thread is at, where there are other ranks to wait for."""
FIRST_SECONDS = 3600.0
"""Time-out of a section of which none is known to have taken how long: the first step compiles."""
SHORTEST_SECONDS = 600.0
TIMES_LONGEST = 20.0
COMPARED_TICKS = 3
"""Ticks between two readings of all heartbeats: one that has not moved is of a rank that is stopped or gone."""
_WORKING = ("step", "between")
"""Sections in which ranks wait for nobody but the slowest."""


def end_at_once(error: GroundupError) -> None:
    """End the process with the error's exit code, as nothing else may end what hangs."""
    os._exit(error.exit_code)


def _nothing(facts: dict[str, Any]) -> None:
    """Of a slow rank, where nobody asks for it."""


class Watchdog:
    """Watches the sections of one rank. `timeouts`: seconds by section, 0 or missing: from those seen so far.

    `on_hang(facts, speaks)` writes the event, where this rank speaks of it, and ends the attempt's record; then
    `end(error)` ends the process. `on_straggler(facts)`: rank 0 tells of a rank that keeps the others waiting.
    """

    def __init__(
        self,
        folder: Path,
        phase: str,
        rank: int,
        timeouts: Mapping[str, float],
        on_hang: Callable[[dict[str, Any], bool], None],
        *,
        world_size: int = 1,
        on_straggler: Callable[[dict[str, Any]], None] = _nothing,
        tick_seconds: float = TICK_SECONDS,
        end: Callable[[GroundupError], Any] = end_at_once,
    ) -> None:
        self.beat_file = folder / HEARTBEATS / f"rank-{rank}.json"
        self.stacks_file = folder / f"stacks-rank-{rank}.txt"
        self._about = {"rank": rank, "host": socket.gethostname(), "pid": os.getpid(), "phase": phase}
        self._rank, self._world_size = rank, world_size
        self._timeouts, self._on_hang, self._end = dict(timeouts), on_hang, end
        self._on_straggler, self._stragglers = on_straggler, Stragglers(world_size)
        self._tick_seconds = tick_seconds
        self._longest: dict[str, float] = {}
        self._section, self._step, self._elapsed = "start", 0, 0.0
        self._beats = self._samples = self._waiting = 0
        self._watched = threading.main_thread().ident
        self._changed = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._watched = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._section = ENDED
        self._beat()

    @contextmanager
    def section(self, name: str, step: int) -> Iterator[None]:
        """Inside, the run is at `name` of step number `step`; sections do not nest."""
        began = time.monotonic()
        self._enter(name, step)
        yield
        seconds = time.monotonic() - began
        self._longest[name] = max(seconds, self._longest.get(name, 0.0))
        self._enter("between", step)

    def _enter(self, name: str, step: int) -> None:
        with self._changed:
            self._section, self._step, self._elapsed = name, step, 0.0

    def timeout(self, section: str) -> float:
        """Seconds after which a section hangs."""
        asked = self._timeouts.get(section, 0.0)
        if asked or section not in self._longest:
            return asked or FIRST_SECONDS
        return max(SHORTEST_SECONDS, TIMES_LONGEST * self._longest[section])

    def _watch(self) -> None:
        self._beat()
        while (now := self._tick()) is not None:
            section, step, elapsed = now
            self._beat()
            if self._world_size > 1 and self._rank == 0:
                slow = self._stragglers.look(read_beats(self.beat_file.parent, self._world_size))
                if slow is not None:
                    self._slow(slow)
            if elapsed > self.timeout(section) and self._hung(section, step):
                return

    def _tick(self) -> tuple[str, int, float] | None:
        """Wait one interval; returns the section, its step and its seconds so far, None where all is over."""
        began = last = time.monotonic()
        look = min(LOOK_SECONDS, self._tick_seconds) if self._world_size > 1 else self._tick_seconds
        while last - began < self._tick_seconds:
            if self._stopped.wait(look):
                return None
            last = time.monotonic()
            if self._world_size > 1 and self._section in _WORKING:
                self._samples += 1
                self._waiting += self._whereabouts()[1]
        with self._changed:
            self._elapsed += min(last - began, 2 * self._tick_seconds)
            return self._section, self._step, self._elapsed

    def _whereabouts(self) -> tuple[str, bool]:
        return whereabouts(sys._current_frames().get(self._watched or 0))

    def _beat(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._beats += 1
        beat = {**self._about, "section": self._section, "step": self._step, "time": now, "beats": self._beats}
        beat["section_seconds"] = round(self._elapsed, 1)
        if self._world_size > 1:
            at, waits = self._whereabouts()
            beat |= {"at": at, "waits": waits, "samples": self._samples, "waiting": self._waiting}
        temporary = self.beat_file.with_name(self.beat_file.name + ".tmp")
        try:
            self.beat_file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(beat) + "\n", encoding="utf-8")
            os.replace(temporary, self.beat_file)
        except OSError:
            # A full disk must not end a training that could go on; the loop's own lines warn of it.
            return

    def _slow(self, facts: dict[str, Any]) -> None:
        share = f"{facts['others_wait_share']:.0%} of their time"
        logger.warning(
            f"rank {facts['rank']} on {facts['host']} is slow: the others wait {share} for it ({facts['at']})"
        )
        self._on_straggler(facts)

    def _compared(self) -> list[dict[str, Any]] | None:
        """Who keeps the others waiting, by two readings of all heartbeats; None where this rank went on meanwhile."""
        folder, section = self.beat_file.parent, (self._section, self._step)
        before = read_beats(folder, self._world_size)
        for _ in range(COMPARED_TICKS):
            # Its own heart goes on beating: others may compare just now.
            if self._tick() is None or (self._section, self._step) != section:
                return None
            self._beat()
        return culprits(before, read_beats(folder, self._world_size), self._world_size)

    def _hung(self, section: str, step: int) -> bool:
        """End the process; False where the section has ended after all."""
        found = self._compared() if self._world_size > 1 else []
        if found is None:
            return False
        seconds = self._elapsed
        facts: dict[str, Any] = {
            **{key: self._about[key] for key in ("rank", "host", "pid")},
            "section": section,
            "step": step,
            "seconds": round(seconds, 1),
            "timeout_seconds": round(self.timeout(section), 1),
            "stacks": self.stacks_file.name,
            "culprits": found,
        }
        own = f"rank {facts['rank']} on {facts['host']} (process {facts['pid']})"
        where = f"{section} of step {step}"
        if self._world_size == 1 or any(each["rank"] == self._rank for each in found):
            message = f"{own}, {where} hangs for {seconds:.0f} s; stacks in {self.stacks_file}; ending the process"
        else:
            message = f"{own}, {where} hangs for {seconds:.0f} s: {_blamed(found)}"
        silent = {each["rank"] for each in found if each["silent"]}
        # Whoever ends first takes the others with it, so both write it: who hangs, and the first that can.
        hanging = min((each["rank"] for each in found if not each["silent"]), default=-1)
        speaks = self._rank in (min(set(range(self._world_size)) - silent, default=0), hanging)
        try:
            self._write_stacks(f"{own}, {where}, {seconds:.0f} s\n")
            logger.error(f"watchdog: {message}")
            if speaks or any(each["rank"] == self._rank for each in found):
                logger.error(self.stacks_file.read_text(encoding="utf-8", errors="replace")[-20_000:])
            self._on_hang(facts, speaks)
        except OSError as error:
            logger.error(f"watchdog: {error}")
        finally:
            self._section = ENDED
            self._beat()
            _wake(each for each in found if each["silent"] and each["host"] == self._about["host"])
            self._end(HungError(_first_words(found, where, seconds, own, self._world_size)))
        return True

    def _write_stacks(self, title: str) -> None:
        with self.stacks_file.open("a", encoding="utf-8") as handle:
            handle.write(title)
            handle.flush()
            faulthandler.dump_traceback(handle, all_threads=True)


def _wake(silent: Iterable[Mapping[str, Any]]) -> None:
    """Let ranks of this machine that are paused go on: they find the others gone, and end at once.

    Else whoever started them waits half a minute for an answer to SIGTERM.
    """
    for each in silent:
        with suppress(OSError, TypeError):  # ended by now, or never begun
            os.kill(each["pid"], signal.SIGCONT)


def _blamed(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "all ranks wait for each other"
    names = ", ".join(f"rank {each['rank']}" for each in found[:3]) + (", ..." if len(found) > 3 else "")
    return f"it waits for {names}"


def _first_words(found: Sequence[Mapping[str, Any]], where: str, seconds: float, own: str, world_size: int) -> str:
    """What is said of a hang in one line: who and where, as far as it is known."""
    remedy = "; the same command goes on from the last checkpoint"
    if not found:
        who = "all ranks wait for each other, a way between machines may be cut" if world_size > 1 else f"{own} hangs"
        return f"{where} takes {seconds:.0f} s: {who}{remedy}"
    first = found[0]
    what = "is silent (stopped, or its machine is gone)" if first["silent"] else f"hangs at {first['at'] or '?'}"
    who = f"rank {first['rank']} on {first['host']} (process {first['pid']})"
    return f"{who} {what} in {where} for {seconds:.0f} s{remedy}"
