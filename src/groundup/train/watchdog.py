"""Who does what since when: a heartbeat file per rank, and an end to a run that hangs.

    with watchdog.section("step", 7): ...            the loop says what it is at
    heartbeats/rank-0.json                           {rank, host, pid, phase, section, step, section_seconds, time}
    longer than its time-out -> stacks of all threads to the log and stacks-rank-0.txt, event `watchdog`, exit code 6

Time is counted in ticks of the thread, each at most two intervals long: a process that was stopped and goes on, a
suspended laptop or a clock that jumps make no hang. Invariant: a section that returns in time is never disturbed.
A hang that keeps the interpreter's lock cannot be answered from inside; it shows by a heartbeat that grows old.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundup.errors import ResourceError
from groundup.log import logger

HEARTBEATS = "heartbeats"
TICK_SECONDS = 1.0
FIRST_SECONDS = 3600.0
"""Time-out of a section of which none is known to have taken how long: the first step compiles."""
SHORTEST_SECONDS = 600.0
TIMES_LONGEST = 20.0


class Watchdog:
    """Watches the sections of one rank. `timeouts`: seconds by section, 0 or missing: from those seen so far.

    `on_hang(facts)` writes the event and ends the attempt's record; then `end(exit code)` ends the process.
    """

    def __init__(
        self,
        folder: Path,
        phase: str,
        rank: int,
        timeouts: Mapping[str, float],
        on_hang: Callable[[dict[str, Any]], None],
        *,
        tick_seconds: float = TICK_SECONDS,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self.beat_file = folder / HEARTBEATS / f"rank-{rank}.json"
        self.stacks_file = folder / f"stacks-rank-{rank}.txt"
        self._about = {"rank": rank, "host": socket.gethostname(), "pid": os.getpid(), "phase": phase}
        self._timeouts, self._on_hang, self._end = dict(timeouts), on_hang, end
        self._tick_seconds = tick_seconds
        self._longest: dict[str, float] = {}
        self._section, self._step, self._elapsed = "start", 0, 0.0
        self._changed = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._section = "ended"
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
        last = time.monotonic()
        self._beat()
        while not self._stopped.wait(self._tick_seconds):
            now = time.monotonic()
            with self._changed:
                self._elapsed += min(now - last, 2 * self._tick_seconds)
                section, step, elapsed = self._section, self._step, self._elapsed
            last = now
            self._beat()
            if elapsed > self.timeout(section):
                self._hung(section, step, elapsed)
                return

    def _beat(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        beat = {**self._about, "section": self._section, "step": self._step, "time": now}
        text = json.dumps({**beat, "section_seconds": round(self._elapsed, 1)}) + "\n"
        temporary = self.beat_file.with_name(self.beat_file.name + ".tmp")
        try:
            self.beat_file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.beat_file)
        except OSError:
            # A full disk must not end a training that could go on; the loop's own lines warn of it.
            return

    def _hung(self, section: str, step: int, seconds: float) -> None:
        facts = {
            **{key: self._about[key] for key in ("rank", "host", "pid")},
            "section": section,
            "step": step,
            "seconds": round(seconds, 1),
            "timeout_seconds": round(self.timeout(section), 1),
            "stacks": self.stacks_file.name,
        }
        where = f"rank {facts['rank']} on {facts['host']} (process {facts['pid']}), {section} of step {step}"
        logger.error(f"watchdog: {where} hangs for {seconds:.0f} s; stacks in {self.stacks_file}; ending the process")
        try:
            with self.stacks_file.open("a", encoding="utf-8") as handle:
                handle.write(f"{where}, {seconds:.0f} s\n")
                handle.flush()
                faulthandler.dump_traceback(handle, all_threads=True)
            logger.error(self.stacks_file.read_text(encoding="utf-8", errors="replace")[-20_000:])
            self._on_hang(facts)
        except OSError as error:
            logger.error(f"watchdog: {error}")
        finally:
            sys.stderr.flush()
            self._end(ResourceError.exit_code)
