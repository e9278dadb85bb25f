"""How the command ends when something is wrong: an error to lines on stderr, a JSON object, a rank's last words."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from groundup.cli import rooms
from groundup.cli.output import show_json, takes_colour
from groundup.errors import EXIT_CODES, GroundupError, LostRankError, first_line, printable


def fail(error: GroundupError, exit_code: int, with_trace: bool, as_json: bool) -> int:
    """Say on stderr what is wrong (with --json also on stdout) and return `exit_code`; of several ranks one says it."""
    line = first_line(error)
    details = [printable(detail) for detail in (*error.message.split("\n")[1:], *error.details)]
    if (place := rooms.room("launcher").place()) is not None:
        trace = traceback.format_exc().splitlines() if with_trace else []
        if place.reports is not None and _leave_words(place, error, exit_code, line, [*details, *trace]):
            return exit_code
        if place.rank and (isinstance(error, LostRankError) or exit_code in (75, 130)):
            return exit_code
    if sys.stderr is not None:
        label = "groundup:" if place is None else f"groundup (rank {place.rank}):"
        with _if_anybody_reads(sys.stderr):
            print(f"\x1b[31m{label}\x1b[0m" if takes_colour(sys.stderr) else label, line, file=sys.stderr)
            for detail in details:
                print(f"  {detail}", file=sys.stderr)
            if with_trace:
                print(printable(traceback.format_exc()), end="", file=sys.stderr)
    if as_json and sys.stdout is not None:
        kind = EXIT_CODES.get(exit_code, "unexpected")
        with _if_anybody_reads(sys.stdout):
            show_json({"error": {"exit_code": exit_code, "kind": kind, "message": line, "details": details}})
    return exit_code


@contextmanager
def _if_anybody_reads(stream: TextIO) -> Iterator[None]:
    """Inside, something is written to `stream`. A pipe or a terminal that is closed changes no exit code."""
    try:
        yield
        stream.flush()
    except OSError:
        let_go(stream)


def let_go(stream: TextIO) -> None:
    """Point a stream that nobody reads elsewhere, or Python complains when it closes it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_broken(stream: TextIO | None) -> bool:
    """Whether nobody is at the other end of a stream."""
    poll = select.poll()
    try:
        poll.register(stream.fileno() if stream is not None else -1, select.POLLOUT)
    except (OSError, ValueError):
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _leave_words(place: Any, error: GroundupError, exit_code: int, line: str, details: list[str]) -> bool:
    """How this rank failed, for the command that started it (`torchrun.LastWords`); False where no disk takes it."""
    words = {"exit_code": exit_code, "message": line, "details": details, "seconds": time.monotonic()}
    path, again = place.reports / f"{place.rank}.json", error.another_start_may_help or exit_code == 1
    words |= {"follows": isinstance(error, LostRankError), "again": again}
    try:
        path.write_text(json.dumps(words), encoding="utf-8")
    except OSError:
        return False
    return True


def ending(options: argparse.Namespace) -> Callable[[GroundupError], None]:
    """How this process ends where it cannot return to `main`: it says why, as ever, and is gone."""

    def end(error: GroundupError) -> None:
        code = fail(error, error.exit_code, options.verbose > 0, options.json)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with _if_anybody_reads(stream):
                    stream.flush()
        os._exit(code)

    return end
