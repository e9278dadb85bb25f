"""torch's elastic agent under our rules: where machines meet, which failure is worth another start, when to give up.

    one machine    a free port of the loopback
    several        HOST:PORT of one of them, which keeps the store; the others wait for it, and for enough machines
    a rank fails, a machine is gone  -> `Restarts.failed` -> all ranks again, or none; a machine comes: all again

Each start of the ranks gets a store of its own: nothing that dead ranks left (addresses, words) is met again, and
another machine may have rank 0. Invariant: `run` returns or raises; a meeting that is lost ends in one of our errors,
however deep the agent hangs in a network call.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousParameters,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, create_handler

from groundup.errors import GroundupError, LostRankError, ResourceError
from groundup.log import logger

LOOPBACK = "127.0.0.1"
ELSEWHERE = "192.0.2.1"
"""An address that is nobody's, kept for documents."""
STOP_SECONDS = 60
"""Time that ranks get to save their state once they are asked to stop."""
GATHERING_SECONDS = 600
"""Longest wait for the machine that keeps the store, and for enough machines."""
LAST_CALL_SECONDS = 10
"""What is waited for more machines once there are enough."""
BEAT_SECONDS, BEATS_MISSED = 2, 8
"""A machine that has not been heard of for their product is gone. Clocks of machines must agree to less than that."""
ROUNDS_WITHOUT = 30
"""Looks at the ranks in a row, 0.1 s each, at which a machine is missing, before the others believe it."""
ANSWER_SECONDS = 20
"""Longest wait for one answer of the store."""
ASKS_ONCE = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that say no more the second time; a second Ctrl-C ends at once."""
LOST_SECONDS = 20.0
"""An agent that has not come round for so long hangs in a call to a store that is out of reach."""
FAREWELL_SECONDS = 5.0
"""Time to tell the other machines that the run has ended."""


@dataclass(frozen=True)
class Meeting:
    """Which machines train together, and where they meet; `endpoint` HOST:PORT, empty for this machine alone."""

    name: str
    nodes: int = 1
    min_nodes: int = 1
    endpoint: str = ""

    @property
    def elastic(self) -> bool:
        """Whether fewer machines go on."""
        return self.min_nodes < self.nodes

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where the store is."""
        host, _, port = self.endpoint.rpartition(":")
        return (host, int(port)) if host else (LOOPBACK, 0)


class Restarts(Protocol):
    """Who decides about another start of the ranks, and is told why there is one."""

    def failed(self, ends: Mapping[int, int]) -> bool:
        """Ranks of this machine ended with these codes (negative: signals): whether to start all again.

        None: they were ended since another machine is gone.
        """

    def joined(self) -> None:
        """All start again since a machine came."""


class _Agent(LocalElasticAgent):
    """torch's agent, which asks `restarts` before it starts ranks again."""

    def __init__(self, spec: WorkerSpec, folder: Path, restarts: Restarts) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=str(folder)), shutdown_timeout=STOP_SECONDS)
        self._restarts = restarts
        self.rounds: int | None = None
        """How often it has looked after healthy ranks; None while it starts or stops them."""
        self._rounds_without = 0

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        handler = worker_group.spec.rdzv_handler
        if isinstance(handler, DynamicRendezvousHandler):
            # It would hand out the address of the first store for ever, also when rank 0 is on another machine by now.
            handler._bootstrap_store_info = None
        super()._rendezvous(worker_group)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.HEALTHY and self._machine_is_gone(worker_group):
            # Its ranks wait in a collective for those that are gone, and hear no signal there.
            self._shutdown(signal.SIGKILL)
            result = RunResult(state=WorkerState.FAILED)
        self.rounds = (self.rounds or 0) + 1 if result.state is WorkerState.HEALTHY else None
        if result.state in (WorkerState.FAILED, WorkerState.UNHEALTHY):
            ends = {rank: failure.exitcode for rank, failure in result.failures.items()}
            self._remaining_restarts = int(self._restarts.failed(ends))
        return result

    def _machine_is_gone(self, worker_group: WorkerGroup) -> bool:
        handler, machines = worker_group.spec.rdzv_handler, worker_group.group_world_size or 1
        # A machine that is alone can only miss itself, as after it was suspended.
        if machines == 1 or not isinstance(handler, DynamicRendezvousHandler):
            return False
        missing = machines - len(handler._state_holder.state.participants)
        self._rounds_without = self._rounds_without + 1 if missing > 0 else 0
        return self._rounds_without > ROUNDS_WITHOUT

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        if isinstance(sys.exception(), SignalException):
            # Ranks that were asked to stop are saving: asked twice, as by a scheduler and by its script, they go on.
            for number in ASKS_ONCE:
                signal.signal(number, signal.SIG_IGN)
        super()._shutdown(death_sig, timeout)

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        self._rounds_without = 0
        if self.rounds is not None:
            self._restarts.joined()
        self.rounds = None
        super()._restart_workers(worker_group)


def silence() -> None:
    """The agent tells the story of its work as warnings; what a user should know of it is said by us."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def own_address(meeting: Meeting) -> tuple[str, bool]:
    """This machine's address on the way to the meeting, and whether the meeting is at it.

    Raises OSError when the host is unknown or no way leads there.
    """
    host = meeting.host_and_port[0]
    found = str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
    own = _address_towards(found)
    if not own.startswith("127."):
        return own, own == found
    if host == "localhost" or host.startswith("127."):
        return own, True
    # Many a machine takes its own name for the loopback, where no other one finds it.
    with suppress(OSError):
        own = _address_towards(ELSEWHERE)
    return own, True


def _address_towards(address: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 1))  # sends nothing; the kernel picks the interface
        return str(probe.getsockname()[0])


def run(
    arguments: Sequence[str],
    processes: int,
    meeting: Meeting,
    folder: Path,
    restarts: Restarts,
    lost: Callable[[GroundupError], Any],
) -> bool:
    """Run `groundup ARGUMENTS` in so many ranks here, and in those of the other machines; False when they failed.

    `lost(error)` must end this process: the agent hangs in a call that does not return. Raises ResourceError for a
    meeting that does not come about or is lost, torch's SignalException when asked to stop.
    """
    with _meeting_errors(meeting):
        handler = _join(meeting)
        spec = WorkerSpec(
            role="groundup",
            local_world_size=processes,
            entrypoint=sys.executable,
            args=("-m", "groundup", *arguments),
            rdzv_handler=handler,
            max_restarts=1,
            monitor_interval=0.1,
        )
        agent, closes = _Agent(spec, folder, restarts), True
        try:
            with _watched(agent, meeting, lost):
                result = agent.run()
        except SignalException:
            closes = not meeting.elastic  # the others go on without this machine
            raise
        finally:
            if closes:
                # It asks the store, which may be out of reach for ever.
                farewell = threading.Thread(target=_close, args=(handler,), daemon=True)
                farewell.start()
                farewell.join(FAREWELL_SECONDS)
        if result is None:
            raise RendezvousClosedError  # there were enough machines, and they are done
    return not result.is_failed()


def _close(handler: DynamicRendezvousHandler) -> None:
    with suppress(RendezvousError, RuntimeError):
        handler.shutdown()


def _join(meeting: Meeting) -> DynamicRendezvousHandler:
    """Come to the meeting, as its host where it is at this machine; wait for a host that is not there yet."""
    deadline = time.monotonic() + GATHERING_SECONDS
    told = False
    while True:
        try:
            own, hosts = own_address(meeting)
            taken = hosts and meeting.host_and_port[1] and not _free(*meeting.host_and_port)
            if hosts or _answers(meeting):
                parameters = RendezvousParameters(
                    backend="c10d",
                    endpoint=":".join(map(str, meeting.host_and_port)),
                    run_id=f"groundup-{meeting.name}",
                    min_nodes=meeting.min_nodes,
                    max_nodes=meeting.nodes,
                    local_addr=own,
                    is_host=hosts and not taken,
                    read_timeout=ANSWER_SECONDS,
                    join_timeout=GATHERING_SECONDS,
                    last_call_timeout=LAST_CALL_SECONDS if meeting.elastic else 1,
                    close_timeout=int(FAREWELL_SECONDS),
                    keep_alive_interval=BEAT_SECONDS,
                    keep_alive_max_attempt=BEATS_MISSED,
                )
                try:
                    backend, store = create_backend(parameters)
                    return create_handler(store, backend, parameters)
                except RendezvousConnectionError as error:
                    if taken or not hosts:
                        raise _taken(meeting, error) from None
                continue  # another command of this machine was a moment earlier, and is the host now
            why = "nothing answers there yet"
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise ResourceError(
                f"runtime.rendezvous: {meeting.endpoint[-80:]}: {why};"
                " start the command on that machine too, or name another"
            )
        if not told:
            told = True
            logger.info(f"waiting for {meeting.endpoint}: {why}")
        time.sleep(1.0)


def _taken(meeting: Meeting, error: Exception) -> ResourceError:
    cause = error.__cause__ or error
    return ResourceError(
        f"runtime.rendezvous: port {meeting.endpoint[-60:]} is taken by another program;"
        " give a free port of that machine",
        details=[str(cause).split("\n")[0][:300]],
    )


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _answers(meeting: Meeting) -> bool:
    try:
        socket.create_connection(meeting.host_and_port, timeout=ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def _meeting_errors(meeting: Meeting) -> Any:
    """Turn what torch says of a meeting into our errors."""
    where = meeting.endpoint[-60:] or "this machine"
    try:
        yield
    except RendezvousClosedError:
        raise LostRankError(
            f"the run at {where} was ended by another machine; see what it said. The same command goes on"
        ) from None
    except RendezvousTimeoutError:
        raise ResourceError(
            f"fewer than {meeting.min_nodes} machines came to {where} within {GATHERING_SECONDS} s;"
            " start the command on the others, or lower runtime.min_nodes"
        ) from None
    except (RendezvousError, DistError) as error:
        raise _lost(meeting, str(error.__cause__ or error)) from None


def _lost(meeting: Meeting, why: str) -> ResourceError:
    return ResourceError(
        f"the rendezvous at {meeting.endpoint[-60:] or LOOPBACK} is lost: that machine, its command or the way to it is"
        " gone; the same command goes on from the last checkpoint",
        details=[why.split("\n")[0][:300]],
    )


@contextmanager
def _watched(agent: _Agent, meeting: Meeting, lost: Callable[[GroundupError], Any]) -> Any:
    """Inside, an agent of several machines that no longer comes round ends this process."""
    stopped = threading.Event()

    def watch() -> None:
        seen, waited = agent.rounds, 0
        while not stopped.wait(1.0):
            # Ticks, not the clock: a process that was stopped and goes on has not waited.
            waited = waited + 1 if agent.rounds is not None and agent.rounds == seen else 0
            seen = agent.rounds
            if waited > LOST_SECONDS:
                lost(_lost(meeting, f"the store has not answered for {waited} s"))

    if meeting.endpoint:
        threading.Thread(target=watch, name="rendezvous", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
