"""The watchdog: heartbeats, and an end with names and stacks for a section that takes too long, for no other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from groundup.train.watchdog import FIRST_SECONDS, SHORTEST_SECONDS, Watchdog


def watchdog(folder: Path, hangs: list[Any], ends: list[int], timeout: float = 0.3) -> Watchdog:
    return Watchdog(folder, "pretrain", 3, {"step": timeout}, hangs.append, tick_seconds=0.02, end=ends.append)


def test_a_section_that_hangs_is_named_with_its_stacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hangs: list[Any] = []
    ends: list[int] = []

    def sleeps_too_long() -> None:
        deadline = time.monotonic() + 10
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)

    with watchdog(tmp_path, hangs, ends) as watching, watching.section("step", 7):
        sleeps_too_long()
    assert ends == [6]
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
