"""Where machines meet: who is the host, what is said when the port is taken, the name unknown or nobody comes."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

from groundup import agent
from groundup.agent import Meeting
from groundup.errors import GroundupError, ResourceError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which another program listens, and hangs up on whoever calls."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        yield server.getsockname()[1]


def test_the_host_is_the_machine_that_has_the_address() -> None:
    assert agent.own_address(Meeting("a")) == ("127.0.0.1", True)
    own, hosts = agent.own_address(Meeting("a", 2, 1, "localhost:29500"))
    assert (own, hosts) == ("127.0.0.1", True)
    with pytest.raises(OSError):
        agent.own_address(Meeting("a", 2, 1, "no-such-host.invalid:29500"))


def test_a_port_that_another_program_has_is_named(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "ANSWER_SECONDS", 2)
    with pytest.raises(ResourceError, match=rf"port 127.0.0.1:{taken} is taken by another program; give a free port"):
        agent._join(Meeting("a", 2, 2, f"127.0.0.1:{taken}"))


@pytest.mark.parametrize("endpoint", ["no-such-host.invalid:29500", "127.0.0.2:1"])
def test_a_host_that_does_not_come_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "GATHERING_SECONDS", 0)
    monkeypatch.setattr(agent, "own_address", _not_here if endpoint.startswith("127") else agent.own_address)
    with pytest.raises(ResourceError, match=f"runtime.rendezvous: {endpoint}: .*; start the command on that machine"):
        agent._join(Meeting("a", 2, 2, endpoint))


def _not_here(meeting: Meeting) -> tuple[str, bool]:
    return "127.0.0.1", False


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (RendezvousTimeoutError(), "fewer than 2 machines came to first:29500 within"),
        (RendezvousConnectionError("gone"), "the rendezvous at first:29500 is lost"),
        (RendezvousClosedError(), "the run at first:29500 was ended by another machine"),
    ],
)
def test_what_torch_says_of_a_meeting_is_said_clearly(fault: Exception, words: str) -> None:
    with pytest.raises(ResourceError, match=words) as caught, agent._meeting_errors(Meeting("a", 3, 2, "first:29500")):
        raise fault
    assert caught.value.exit_code == 6 and len(caught.value.message) <= 200


def test_an_agent_that_hangs_in_the_network_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a call to a store behind a cut link: it does not return, so nothing but another thread can end it."""
    monkeypatch.setattr(agent, "LOST_SECONDS", 1.0)
    ends: list[GroundupError] = []
    ended = threading.Event()

    class Stuck:
        rounds = 7

    def lost(error: GroundupError) -> None:
        ends.append(error)
        ended.set()

    with agent._watched(Stuck(), Meeting("a", 2, 1, "first:29500"), lost):  # type: ignore[arg-type]
        assert ended.wait(20)
    assert ends[0].exit_code == 6 and "the rendezvous at first:29500 is lost" in ends[0].message


class Handler(DynamicRendezvousHandler):
    """Knows so many machines."""

    def __init__(self, present: int) -> None:
        known: Any = SimpleNamespace(state=SimpleNamespace(participants=dict.fromkeys(range(present))))
        self._state_holder = known


@pytest.mark.parametrize(("machines", "present", "gone"), [(2, 1, True), (2, 2, False), (1, 0, False), (3, 4, False)])
def test_a_machine_is_gone_when_the_others_have_missed_it_for_long(machines: int, present: int, gone: bool) -> None:
    watching = agent._Agent.__new__(agent._Agent)
    watching._rounds_without = 0
    group: Any = SimpleNamespace(spec=SimpleNamespace(rdzv_handler=Handler(present)), group_world_size=machines)
    assert not any(watching._machine_is_gone(group) for _ in range(agent.ROUNDS_WITHOUT)), "it may only be between two"
    assert watching._machine_is_gone(group) == gone


def test_ranks_that_were_asked_to_stop_are_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler and the script that it started both ask; the second word must not end the wait for a checkpoint."""
    asking, earlier = agent._Agent.__new__(agent._Agent), {each: signal.getsignal(each) for each in agent.ASKS_ONCE}
    waited: list[Any] = []

    def saving(self: LocalElasticAgent, death_sig: signal.Signals, timeout: int) -> None:
        waited.append((death_sig, [signal.getsignal(each) for each in agent.ASKS_ONCE]))

    monkeypatch.setattr(LocalElasticAgent, "_shutdown", saving)
    try:
        asking._shutdown(signal.SIGTERM)  # to start the ranks again: a first word must still be heard
        try:
            raise SignalException("asked", signal.SIGTERM)
        except SignalException as stopped:
            asking._shutdown(stopped.sigval)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    assert waited == [
        (signal.SIGTERM, list(earlier.values())),
        (signal.SIGTERM, [signal.SIG_IGN] * len(agent.ASKS_ONCE)),
    ]
