"""One logger, one progress bar a stage, and metrics and events as JSON lines.

Logs and progress go to stderr; results go to stdout and only `cli` writes those. On a terminal a stage shows one bar
with rate and time left, elsewhere a plain line every few seconds. Invariant: a JSON-lines file never holds NaN, and a
line that a kill cut in half is dropped on the next `read_lines`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from groundup.errors import SHORTAGES, printable, refusal

logger = logging.getLogger("groundup")
PLAIN_INTERVAL_SECONDS = 10.0
ERRORS_ONLY = -2
"""Verbosity of processes that others speak for."""
BAR_INTERVAL_SECONDS = 0.1


class _EscapingFormatter(logging.Formatter):
    """Names and text that come from data must not steer the terminal (`extra={"escaped": True}`: that was seen to)."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if getattr(record, "escaped", False) else printable(text)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is now: while a bar is shown, that prints above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(verbosity: int = 0) -> None:
    """Send the `groundup` logger to stderr: -2 errors only, -1 warnings too, 0 information, 1 debug."""
    handler = _StderrHandler()
    handler.setFormatter(_EscapingFormatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel({ERRORS_ONLY: logging.ERROR, -1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))


class Progress:
    """Counts units of one stage towards `total` (None: unknown). Use `progress(...)` to make one."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self.text = ""
        self._started = self._printed = time.monotonic()
        self._start_at = 0.0

    def start_at(self, done: float) -> None:
        """Say what was done before (a resume), so that rate and time left count new work only."""
        self.done = self._start_at = done

    def advance(self, amount: float = 1, text: str | None = None) -> None:
        """Count `amount` more units; `text` is shown behind the bar (for example the loss)."""
        self.done += amount
        if text is not None:
            self.text = text
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._printed >= PLAIN_INTERVAL_SECONDS:
            self._printed = now
            logger.info(self.line())

    def line(self) -> str:
        """Name, count, rate, time left and text in one line."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._start_at) / seconds
        of = f"/{_short(self.total)}" if self.total else ""
        left = f", {_duration((self.total - self.done) / rate)} left" if self.total and rate > 0 else ""
        text = f"  {self.text}" if self.text else ""
        return f"{self.name}: {_short(self.done)}{of} {self.unit}, {_short(rate)}/s{left}{text}"


class _TerminalProgress(Progress):
    def __init__(self, name: str, total: float | None, unit: str, update: Callable[[Progress], None]) -> None:
        super().__init__(name, total, unit)
        self._update = update

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._printed >= BAR_INTERVAL_SECONDS:
            self._printed = now
            self._update(self)


@contextmanager
def progress(name: str, total: float | None, unit: str) -> Iterator[Progress]:
    """One bar on a terminal, a plain line every few seconds elsewhere; both on stderr."""
    if not sys.stderr.isatty() or logger.level > logging.INFO:
        yield Progress(name, total, unit)
        return
    with _rich_bar(name, total, unit) as bar:
        yield bar


@contextmanager
def _rich_bar(name: str, total: float | None, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[line]}", markup=False),
    )
    rich = RichProgress(*columns, console=Console(stderr=True), transient=True)
    task = rich.add_task(name, total=total, line="")

    def update(bar: Progress) -> None:
        rich.update(task, completed=bar.done, line=printable(bar.line().removeprefix(f"{name}: ")))

    with suppress(OSError):  # a terminal that was closed takes nothing more; the work goes on, or stops for SIGHUP
        rich.start()
    try:
        yield _TerminalProgress(name, total, unit, update)
    finally:
        with suppress(OSError):
            rich.stop()


def _short(number: float | None) -> str:
    if number is None:
        return "?"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            return f"{number / (1e3 if suffix == 'k' else limit):.1f}{suffix}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def _duration(seconds: float) -> str:
    seconds = int(max(seconds, 0))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def finite(value: Any) -> Any:
    """`value` with every NaN or infinity replaced by None, so that it is valid JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


_warned_of: set[Path] = set()


@contextmanager
def dispensable(path: Path) -> Iterator[None]:
    """Inside, `path` is written, without which a run can go on: a disk that is full is warned of, once for a folder."""
    try:
        yield
    except Exception as error:
        if refusal(error) not in SHORTAGES:
            raise
        _warn_of_loss(path, error)


def _warn_of_loss(path: Path, error: Exception) -> None:
    if path.parent not in _warned_of:
        _warned_of.add(path.parent)
        logger.warning(f"{path}: {os.strerror(refusal(error) or 0)}; going on without what is written there")


class JsonLines:
    """Appends one JSON object a line to each of `paths`; a full disk is warned of once and does not stop the caller."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._cut: set[Path] = set()
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            with dispensable(path):
                _end_cut_line(path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record` (NaN becomes null) as one line."""
        line = json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"
        for path in self.paths:
            try:
                if path in self._cut:  # by a disk that was full in the middle of a line
                    _end_cut_line(path)
                    self._cut.discard(path)
                with path.open("a", encoding="utf-8") as handle:
                    handle.write(line)
            except OSError as error:
                self._cut.add(path)
                _warn_of_loss(path, error)


def _end_cut_line(path: Path) -> None:
    """Close a last line that a kill cut in half, so that the next record gets a line of its own."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as handle:
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                handle.write(b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole JSON objects of a JSON-lines file; broken or cut lines are left out, a missing file is empty."""
    records: list[dict[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return records
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def rewrite_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a JSON-lines file by `records`, atomically."""
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.writelines(lines)
            handle.flush()
            os.fsync(handle.fileno())  # else a power cut may leave an empty file under the old one's name
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
