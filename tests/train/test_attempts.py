"""Attempts: how each ended, what of the time was of use, and an end to those that fail at the same step."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from groundup.errors import CrashLoopError, DivergedError, Interrupted
from groundup.log import JsonLines, read_lines
from groundup.train.attempts import ATTEMPTS, Attempts
from groundup.train.journal import Journal
from tests.train import toys


def steps_to(journal: Journal, step: int) -> None:
    """Lines of steps of half a second each, up to `step`."""
    for number in range(journal.last_step() + 1, step + 1):
        journal.metric(step=number, tokens_seen=number * 100, tokens_per_second=200.0)


def ends(folder: Path) -> list[tuple[str, int]]:
    lines = read_lines(folder / "logs" / ATTEMPTS)
    return [(line["ended"], line["step"]) for line in lines if "ended" in line]


def test_how_attempts_end_is_recorded_and_told(tmp_path: Path) -> None:
    journal = toys.journal(tmp_path)
    Attempts(journal, 5)
    steps_to(journal, 3)
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")
    for error, step in ((Interrupted("", 75), 5), (DivergedError(""), 6), (ValueError(), 7), (lost, 7)):
        with pytest.raises(type(error)), Attempts(journal, 5).recorded():
            steps_to(journal, step)
            raise error
    last = Attempts(journal, 5)
    with last.recorded():
        steps_to(journal, 8)
    expected = [
        ("killed", 3), ("preempted", 5), ("DivergedError (exit code 7)", 6), ("unexpected error", 7),
        ("lost another rank", 7), ("done", 8),
    ]  # fmt: skip
    assert ends(tmp_path) == expected
    told = [event for event in read_lines(tmp_path / "logs/events.jsonl") if event["event"] == "restarted"]
    assert [(event["cause"], event["step"]) for event in told] == expected[:5]
    summary = last.summary()
    assert summary["attempts"] == 6 and summary["productive_seconds"] <= summary["wall_seconds"]
    assert [each["ended"] for each in summary["restarts"]] == [cause for cause, _ in expected[:5]]


def test_effective_time_is_that_of_steps_that_stayed_over_all_since_the_beginning(tmp_path: Path) -> None:
    journal = toys.journal(tmp_path)
    JsonLines(journal.logs / ATTEMPTS).write({"attempt": 1, "began": "2026-01-01T00:00:00Z"})
    JsonLines(journal.logs / ATTEMPTS).write({"attempt": 1, "ended": "killed", "step": 0, "seconds": 30.0})
    steps_to(journal, 40)
    summary = Attempts(journal, 5).summary()
    assert summary["productive_seconds"] == pytest.approx(20.0)
    assert summary["attempt_seconds"] == pytest.approx(30.0, abs=5)
    assert summary["wall_seconds"] > 1e6
    assert summary["effective_share"] < 1e-4


def test_a_crash_loop_ends_with_its_code_and_the_command_after_it_tries_again(tmp_path: Path) -> None:
    journal = toys.journal(tmp_path)
    for _ in range(3):
        Attempts(journal, 3)
        steps_to(journal, 4)
    with pytest.raises(CrashLoopError, match="ended at step 4 in 3 attempts in a row") as caught:
        Attempts(journal, 3)
    assert caught.value.exit_code == 8
    Attempts(journal, 3)


def test_attempts_that_get_further_or_say_why_are_no_loop(tmp_path: Path) -> None:
    journal = toys.journal(tmp_path)
    for step in (1, 2, 2, 3, 3):
        Attempts(journal, 3)
        steps_to(journal, step)
    for _ in range(4):
        with pytest.raises(DivergedError), Attempts(journal, 3).recorded():
            raise DivergedError("")


@pytest.mark.parametrize("jump", [365 * 86400.0, -365 * 86400.0])
def test_a_clock_that_jumps_between_attempts_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    journal, gmtime = toys.journal(tmp_path), time.gmtime
    Attempts(journal, 5)
    steps_to(journal, 3)
    monkeypatch.setattr(time, "gmtime", lambda: gmtime(time.time() + jump))
    second = Attempts(journal, 5)
    (told,) = [event for event in read_lines(tmp_path / "logs/events.jsonl") if event["event"] == "restarted"]
    assert told["down_seconds"] < 60
    assert second.summary()["wall_seconds"] < 60


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_of_a_log_keeps_a_training_from_going_on(tmp_path: Path, bit: int) -> None:
    journal = toys.journal(tmp_path)
    Attempts(journal, 5)
    steps_to(journal, 3)
    Attempts(journal, 5).end("preempted")
    for file in (ATTEMPTS, "metrics.jsonl"):
        path = journal.logs / file
        whole = path.read_bytes()
        for at in range(0, len(whole), 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            third = Attempts(journal, 5)
            third.end("preempted")
            summary = third.summary()
            assert summary["attempts"] >= 2 and 0 <= summary["effective_share"] <= 1
            journal.take_back_after(3)
            path.write_bytes(whole)
