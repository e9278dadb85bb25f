"""One command -> as many ranks of it, started, watched and started again by torch's elastic agent in this process.

    groundup pretrain RECIPE runtime.devices=2
        -> 2 x python -m groundup pretrain RECIPE runtime.devices=2      as torchrun starts them
        <- each rank's last words in a file; the exit code and the message of the one that failed first

Signals are passed on, and ranks that do not end by themselves are killed. Ranks that were lost, hung or killed are
started again and go on from the last checkpoint. Invariant: no rank is left behind, what went wrong is said once, by
this process, and starts without a checkpoint in between come to an end.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException

from groundup import agent
from groundup.agent import LOOPBACK, Meeting
from groundup.errors import (
    CrashLoopError,
    GroundupError,
    Interrupted,
    KilledRankError,
    LostRankError,
    ResourceError,
    first_line,
)
from groundup.launcher import RESTART_FILE, prepare_ranks
from groundup.log import logger, read_lines
from groundup.scratch import scratch_folder

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
STOPPED = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
PREEMPTED, UNEXPECTED = 75, 1


@dataclass(frozen=True)
class LastWords:
    """How a rank failed, as it left it in its file (`cli`)."""

    exit_code: int
    message: str
    details: list[str]
    seconds: float
    """On the clock that all processes of a machine share."""
    follows: bool
    """It only lost another rank, so that one's words say more."""
    again: bool = False
    """Another start may help."""

    def error(self) -> GroundupError:
        """The rank's error, as if it had happened here."""
        error = GroundupError(self.message, details=self.details)
        error.exit_code, error.another_start_may_help = self.exit_code, self.again
        return error


@dataclass(frozen=True)
class Failure:
    """Why the ranks of this machine ended: the error, whose it was, and with which exit code (negative: signal)."""

    error: GroundupError
    rank: int | None = None
    code: int | None = None

    def about(self) -> dict[str, Any]:
        """For the event of a restart."""
        code = self.code or 0
        ended = {"signal": signal.Signals(-code).name} if code < 0 else {"exit_code": self.error.exit_code}
        return {"cause": first_line(self.error), "rank": self.rank, **ended}


def start(
    arguments: Sequence[str],
    processes: int,
    meeting: Meeting,
    *,
    restarts: int,
    events: Path,
    lost: Callable[[GroundupError], Any],
) -> None:
    """Run `groundup ARGUMENTS` in so many ranks on this machine, and wait for their end.

    `restarts`: starts in a row without a checkpoint in between (told by the run's `events`) before they are given up.
    `lost(error)` must end this process, for when a network call never returns.
    Raises the error of the rank that failed first, KilledRankError when one was killed, Interrupted when all were asked
    to stop, CrashLoopError when further starts were of no use, ResourceError when the machines do not meet.
    """
    agent.silence()
    with scratch_folder("ranks") as folder:
        prepare_ranks(folder, _address(meeting), SIGNALS)
        rule = Restarts(folder, restarts, events, elastic=meeting.elastic, machines=meeting.min_nodes)
        try:
            done = agent.run(arguments, processes, meeting, folder / "agent", rule, lost)
        except SignalException as stopped:
            raise _stopped(last_words(folder), signal.Signals(stopped.sigval)) from None
        except LostRankError as ended:
            # Another machine closed the meeting: what ended our ranks before that says more, unless it is as vague.
            raise (rule.last.error if rule.last is not None and not _vague(rule.last) else ended) from None
        if not done:
            assert rule.last is not None, "ranks that failed were looked at"
            raise rule.last.error


def _address(meeting: Meeting) -> str:
    """This machine's address on the network of the meeting; what is wrong with it is said when it is gone to."""
    try:
        return agent.own_address(meeting)[0]
    except OSError:
        return LOOPBACK


def _vague(failure: Failure) -> bool:
    return failure.error.another_start_may_help


class Restarts:
    """Decides whether ranks that failed are started again, and leaves the next ones word of it."""

    def __init__(self, folder: Path, limit: int, events: Path, *, elastic: bool = False, machines: int = 1) -> None:
        self._folder, self._limit, self._events, self._elastic = folder, limit, events, elastic
        self._when = f", as soon as {machines} machines are there" if machines > 1 else ""
        self._in_a_row, self._saved = 0, self._checkpoints()
        self.last: Failure | None = None
        """Why the ranks ended last."""

    def failed(self, ends: Mapping[int, int]) -> bool:
        """Ranks ended with these codes; whether all are to be started again."""
        before, self.last = self.last, failure(last_words(self._folder), ends)
        error = self.last.error
        saved = self._checkpoints()
        if saved > self._saved:
            before, self._in_a_row, self._saved = None, 0, saved
        if self._elastic and error.exit_code == PREEMPTED:  # a machine leaves, its state is saved: the others go on
            self._leave(self.last.about())
            return True
        same = before is not None and error.exit_code == UNEXPECTED and before.error.message == error.message
        if not self._limit or not error.another_start_may_help or same:
            return False
        if self._in_a_row >= self._limit:
            self.last = Failure(_crash_loop(error, self._in_a_row + 1), self.last.rank, self.last.code)
            return False
        self._in_a_row += 1
        self._leave({**self.last.about(), "number": self._in_a_row, "of": self._limit})
        which = f"{self._in_a_row} of {self._limit}"
        logger.warning(f"{first_line(error).split(';')[0]}: starting the ranks again ({which}){self._when}")
        return True

    def joined(self) -> None:
        """Another machine came, so all start again."""
        self._leave({"cause": "another machine came"})

    def _leave(self, about: Mapping[str, Any]) -> None:
        for path in self._folder.glob("*.json"):
            path.unlink()
        (self._folder / RESTART_FILE).write_text(json.dumps(about), encoding="utf-8")

    def _checkpoints(self) -> int:
        """Checkpoints saved so far, in all phases."""
        return sum(event.get("event") == "checkpoint_saved" for event in read_lines(self._events))


def _crash_loop(error: GroundupError, starts: int) -> CrashLoopError:
    return CrashLoopError(
        f"{starts} starts in a row ended without a checkpoint in between; the last: {error.message.split(',')[0][:90]};"
        " the same command tries anew",
        details=[error.message, *error.details],
    )


def last_words(folder: Path) -> dict[int, LastWords]:
    """What ranks left behind, by rank, the earliest first; words that were cut are none."""
    found: dict[int, LastWords] = {}
    for path in folder.glob("*.json"):
        with suppress(ValueError, TypeError):  # cut by a full disk, or by what killed the rank
            found[int(path.stem)] = LastWords(**json.loads(path.read_text(encoding="utf-8")))
    return dict(sorted(found.items(), key=lambda entry: entry[1].seconds))


def cause(words: Mapping[int, LastWords], ends: Mapping[int, int]) -> GroundupError:
    """The error of `failure`."""
    return failure(words, ends).error


def failure(words: Mapping[int, LastWords], ends: Mapping[int, int]) -> Failure:
    """Why the ranks ended: the first error of one, else the first that was killed, else what the first one says.

    `ends`: exit codes in the order in which the agent saw them, negative ones are signals; none: it ended them itself.
    """
    for rank, each in words.items():
        if not each.follows and each.exit_code not in STOPPED.values():
            return Failure(each.error(), rank, each.exit_code)
    # Ranks that were still starting are ended by the agent's SIGTERM, after another one's end.
    killed = [rank for rank, code in ends.items() if code < 0 and code != -signal.SIGTERM]
    if killed:
        return Failure(_killed(killed[0], signal.Signals(-ends[killed[0]])), killed[0], ends[killed[0]])
    for rank, each in sorted(words.items(), key=lambda entry: entry[1].follows):
        return Failure(each.error(), rank, each.exit_code)
    if not ends:
        return Failure(
            LostRankError(
                "another machine has not been heard of any more, so the ranks of this one were ended;"
                " the same command goes on from the last checkpoint"
            )
        )
    rank, code = next(iter(ends.items()))
    error = GroundupError(f"rank {rank} ended with code {code} without a word; run the same command with -v")
    error.another_start_may_help = True
    return Failure(error, rank, code)


def _killed(rank: int, by: signal.Signals) -> ResourceError:
    perhaps = " (out of memory? see `dmesg`)" if by is signal.SIGKILL else ""
    return KilledRankError(
        f"rank {rank} was killed by {by.name}{perhaps}, so all ranks stopped;"
        " the same command goes on from the last checkpoint"
    )


def _stopped(words: Mapping[int, LastWords], by: signal.Signals) -> GroundupError:
    if words:
        return cause(words, {})
    return Interrupted(
        f"asked to stop ({by.name}): the ranks were ended; the same command goes on from what is on the disk",
        STOPPED[by],
    )
