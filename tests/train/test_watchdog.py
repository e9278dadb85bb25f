"""The watchdog: heartbeats, and an end with names and stacks for a section that takes too long, for no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import GroundupError
from groundup.train import watchdog as watchdog_module
from groundup.train.watchdog import FIRST_SECONDS, HEARTBEATS, SHORTEST_SECONDS, Watchdog


def watchdog(
    folder: Path, hangs: list[Any], ends: list[GroundupError], timeout: float = 0.3, rank: int = 3, ranks: int = 1
) -> Watchdog:
    def on_hang(facts: dict[str, Any], speaks: bool) -> None:
        hangs.append({**facts, "speaks": speaks})

    timeouts = {"step": timeout}
    return Watchdog(folder, "pretrain", rank, timeouts, on_hang, world_size=ranks, tick_seconds=0.02, end=ends.append)


def beat(folder: Path, rank: int, **values: Any) -> None:
    """The heartbeat of another rank, which is there but does not beat on unless it is called again."""
    about = {"rank": rank, "host": "other", "pid": 7, "section": "step", "step": 7, "at": "loop.py:1 x", "waits": True}
    path = folder / HEARTBEATS / f"rank-{rank}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**about, **values}))


def test_a_section_that_hangs_is_named_with_its_stacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hangs: list[Any] = []
    ends: list[GroundupError] = []

    def sleeps_too_long() -> None:
        deadline = time.monotonic() + 10
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)

    with watchdog(tmp_path, hangs, ends) as watching, watching.section("step", 7):
        sleeps_too_long()
    (error,) = ends
    assert error.exit_code == 6 and error.another_start_may_help and "(process" in error.message
    (facts,) = hangs
    assert (facts["rank"], facts["section"], facts["step"]) == (3, "step", 7)
    assert 0.3 < facts["seconds"] + 0.1 < 5
    assert "sleeps_too_long" in (tmp_path / "stacks-rank-3.txt").read_text()


def test_sections_in_time_are_left_alone_and_the_heart_beats(tmp_path: Path) -> None:
    hangs: list[Any] = []
    with watchdog(tmp_path, hangs, []) as watching:
        for step in range(1, 5):
            with watching.section("step", step):
                time.sleep(0.1)
        beat = json.loads((tmp_path / "heartbeats" / "rank-3.json").read_text())
    assert hangs == []
    assert beat["rank"] == 3 and beat["phase"] == "pretrain" and beat["step"] >= 3
    assert {"host", "pid", "section", "section_seconds", "time"} <= beat.keys()
    assert json.loads((tmp_path / "heartbeats" / "rank-3.json").read_text())["section"] == "ended"


def test_a_process_that_was_stopped_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGSTOP and SIGCONT, or a clock that jumps: two ticks are a thousand seconds apart."""
    hangs: list[Any] = []
    jump, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + jump[0])
    with watchdog(tmp_path, hangs, []) as watching, watching.section("step", 1):
        time.sleep(0.06)
        jump[0] = 1000.0
        time.sleep(0.06)
    assert hangs == []


def test_the_time_out_follows_what_was_seen(tmp_path: Path) -> None:
    watching = watchdog(tmp_path, [], [])
    assert watching.timeout("step") == 0.3
    assert watching.timeout("validation") == FIRST_SECONDS
    watching._longest["validation"] = 1.0
    assert watching.timeout("validation") == SHORTEST_SECONDS
    watching._longest["validation"] = 100.0
    assert watching.timeout("validation") == 2000.0


@pytest.mark.parametrize(
    ("this_one_waits", "other_beats", "culprits", "words"),
    [
        (False, True, [1], "rank 1 on .* hangs at .* in step of step 7"),
        (True, False, [0], r"rank 0 on other \(process 7\) is silent .* in step of step 7"),
        (True, True, [], "all ranks wait for each other"),
        (False, False, [], "all ranks wait for each other"),
    ],
)
def test_the_rank_for_which_the_others_wait_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    this_one_waits: bool,
    other_beats: bool,
    culprits: list[int],
    words: str,
) -> None:
    hangs: list[Any] = []
    ends: list[GroundupError] = []
    monkeypatch.setattr("groundup.train.watchdog.whereabouts", lambda frame: ("loop.py:9 step", this_one_waits))
    monkeypatch.setattr("groundup.train.watchdog.COMPARED_TICKS", 30)
    beat(tmp_path, 0, beats=0)
    with watchdog(tmp_path, hangs, ends, rank=1, ranks=2) as watching, watching.section("step", 7):
        for number in range(1, 1000):
            if other_beats:
                beat(tmp_path, 0, beats=number)
            time.sleep(0.01)
            if ends:
                break
    assert ends[0].exit_code == 6 and re.search(words, ends[0].message) and len(ends[0].message) <= 200
    assert [each["rank"] for each in hangs[0]["culprits"]] == culprits
    assert hangs[0]["speaks"] == bool(culprits), "it hangs, or is the first that is not silent"
    assert "test_the_rank_for_which" in (tmp_path / "stacks-rank-1.txt").read_text()


def test_a_section_that_ends_while_all_are_compared_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.train.watchdog.COMPARED_TICKS", 100)
    ends: list[GroundupError] = []
    with watchdog(tmp_path, [], ends, timeout=0.1, rank=1, ranks=2) as watching:
        with watching.section("step", 7):
            while watching._elapsed <= 0.1:
                time.sleep(0.001)
        time.sleep(0.2)
    assert not ends


def test_a_rank_that_is_paused_is_woken_to_end_with_the_others() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as paused:
        try:
            os.kill(paused.pid, signal.SIGSTOP)
            os.waitpid(paused.pid, os.WUNTRACED)
            watchdog_module._wake([{"pid": None}, {"pid": paused.pid}])
            _, status = os.waitpid(paused.pid, os.WCONTINUED)
            assert os.WIFCONTINUED(status)
        finally:
            paused.kill()
