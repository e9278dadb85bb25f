"""Heartbeats say who is silent, who keeps the others waiting, and who is slow; none are named where nothing tells."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from groundup.train.neighbours import SAMPLES, Stragglers, culprits, whereabouts


def beat(rank: int, beats: int, waits: bool = True, section: str = "step", **more: Any) -> dict[str, Any]:
    about = {"rank": rank, "host": "a", "pid": 100 + rank, "section": section, "step": 5, "at": "loop.py:1 step"}
    return {**about, "beats": beats, "waits": waits, **more}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({0: beat(0, 2), 1: beat(1, 2, waits=False), 2: beat(2, 2)}, [(1, False)]),
        ({0: beat(0, 2), 1: beat(1, 1), 2: beat(2, 2)}, [(1, True)]),
        ({0: beat(0, 2), 2: beat(2, 2)}, [(1, True)]),
        ({0: beat(0, 2), 1: beat(1, 1, section="ended"), 2: beat(2, 2)}, []),
        ({0: beat(0, 2), 1: beat(1, 2), 2: beat(2, 2)}, []),
        ({rank: beat(rank, 2, waits=False) for rank in range(3)}, []),
    ],
)
def test_who_is_silent_or_does_not_wait_holds_up_the_others(
    after: dict[int, dict[str, Any]], expected: list[tuple[int, bool]]
) -> None:
    before = {rank: beat(rank, 1) for rank in range(3)}
    found = culprits(before, after, 3)
    assert [(each["rank"], each["silent"]) for each in found] == expected


def test_a_thread_waits_where_a_call_of_torch_distributed_is_innermost() -> None:
    """A store's `wait` called by torch's own code: as a collective, it returns when another rank has come."""
    place = compile("def call(wait):\n    return wait()\n", str(Path(dist.__file__).parent / "a.py"), "exec")
    room: dict[str, Any] = {}
    exec(place, room)  # a function whose frame is in torch's folder
    entered, lock = threading.Event(), threading.Lock()

    def train() -> None:
        entered.set()
        room["call"](lock.acquire)

    lock.acquire()
    thread = threading.Thread(target=train)
    thread.start()
    entered.wait()
    deadline = time.monotonic() + 10
    while not (seen := whereabouts(sys._current_frames()[thread.ident or 0]))[1] and time.monotonic() < deadline:
        time.sleep(0.01)
    lock.release()
    thread.join()
    assert seen[1]
    assert whereabouts(sys._getframe())[1] is False
    assert whereabouts(None) == ("", False)


def window(shares: dict[int, float], number: int) -> dict[int, dict[str, Any]]:
    """Heartbeats after so many windows in which ranks waited such shares of their time."""
    counted = number * SAMPLES
    return {rank: beat(rank, number, samples=counted, waiting=round(counted * share)) for rank, share in shares.items()}


def test_the_rank_that_the_others_wait_for_is_named_once() -> None:
    look, slow, even = Stragglers(3).look, {0: 0.8, 1: 0.7, 2: 0.05}, {0: 0.3, 1: 0.4, 2: 0.2}
    assert look(window(slow, 0)) is None, "nothing to compare with yet"
    assert look(window(slow, 1)) is None, "once is no habit"
    found = look(window(slow, 2))
    assert found is not None and (found["rank"], found["pid"]) == (2, 102)
    assert found["others_wait_share"] == pytest.approx(0.75) and found["waits_share"] == pytest.approx(0.05)
    assert look(window(slow, 2)) is None, "no new looks"
    assert look(window(slow, 3)) is None, "named already"
    last = window(slow, 3)
    evened = {
        rank: {**each, "samples": each["samples"] + SAMPLES, "waiting": each["waiting"] + round(SAMPLES * even[rank])}
        for rank, each in last.items()
    }
    assert look(evened) is None
    again = {
        rank: {**each, "samples": each["samples"] + SAMPLES, "waiting": each["waiting"] + round(SAMPLES * slow[rank])}
        for rank, each in evened.items()
    }
    assert look(again) is None
    thrice = {
        rank: {**each, "samples": each["samples"] + SAMPLES, "waiting": each["waiting"] + round(SAMPLES * slow[rank])}
        for rank, each in again.items()
    }
    assert look(thrice) is not None, "slow again"


def test_ranks_of_another_start_are_not_compared_with_those_before() -> None:
    look = Stragglers(2).look
    assert look(window({0: 0.9, 1: 0.0}, 3)) is None
    newer = {rank: {**each, "pid": 1} for rank, each in window({0: 0.9, 1: 0.0}, 4).items()}
    assert look(newer) is None and look({0: newer[0]}) is None
