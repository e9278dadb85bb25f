"""One command on one machine -> as many ranks of it, started and watched by torch's elastic agent in this process.

    groundup pretrain RECIPE runtime.devices=2
        -> 2 x python -m groundup pretrain RECIPE runtime.devices=2      as `torchrun --standalone` starts them
        <- each rank's last words in a file; the exit code and the message of the one that failed first

Signals are passed on, and ranks that do not end by themselves are killed. Invariant: no rank is left behind, and what
went wrong is said once, by this process.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from groundup.errors import GroundupError, Interrupted, ResourceError
from groundup.launcher import prepare_ranks

STOP_SECONDS = 60
"""Time that ranks get to save their state once they are asked to stop."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")
STOPPED = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGINT: 130}
_ADDRESS = "127.0.0.1"


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

    def error(self) -> GroundupError:
        """The rank's error, as if it had happened here."""
        error = GroundupError(self.message, details=self.details)
        error.exit_code = self.exit_code
        return error


def start(arguments: Sequence[str], processes: int) -> None:
    """Run `groundup ARGUMENTS` in so many ranks, and wait for their end.

    Raises the error of the rank that failed first, ResourceError when one was killed, Interrupted when all were asked
    to stop.
    """
    _silence_agent()
    with tempfile.TemporaryDirectory(prefix="groundup-ranks-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        prepare_ranks(folder)
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{_ADDRESS}:0",
            local_addr=_ADDRESS,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "agent")),
            signals_to_handle=",".join(SIGNALS),
            shutdown_timeout=STOP_SECONDS,
        )
        try:
            elastic_launch(settings, sys.executable)("-m", "groundup", *arguments)
        except ChildFailedError as failed:
            ends = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            raise cause(last_words(folder), ends) from None
        except SignalException as stopped:
            raise _stopped(last_words(folder), signal.Signals(stopped.sigval)) from None


def _silence_agent() -> None:
    """The agent tells the story of its work as warnings; what a user should know of it is said here."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def last_words(folder: Path) -> dict[int, LastWords]:
    """What ranks left behind, by rank, the earliest first."""
    found: dict[int, LastWords] = {}
    for path in folder.glob("*.json"):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found[int(path.stem)] = LastWords(**content)
    return dict(sorted(found.items(), key=lambda entry: entry[1].seconds))


def cause(words: Mapping[int, LastWords], ends: Mapping[int, int]) -> GroundupError:
    """Why the ranks ended: the first error of one, else the first that was killed, else what the first one says.

    `ends`: exit codes in the order in which the agent saw them, negative ones are signals.
    """
    for each in words.values():
        if not each.follows and each.exit_code not in STOPPED.values():
            return each.error()
    # Ranks that were still starting are ended by the agent's SIGTERM, after another one's end.
    killed = [rank for rank, code in ends.items() if code < 0 and code != -signal.SIGTERM]
    if killed:
        return _killed(killed[0], signal.Signals(-ends[killed[0]]))
    for each in sorted(words.values(), key=lambda each: each.follows):
        return each.error()
    rank, code = next(iter(ends.items()))
    return GroundupError(f"rank {rank} ended with code {code} without a word; run the same command with -v")


def _killed(rank: int, by: signal.Signals) -> ResourceError:
    perhaps = " (out of memory? see `dmesg`)" if by is signal.SIGKILL else ""
    return ResourceError(
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
