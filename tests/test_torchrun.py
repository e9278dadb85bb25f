"""Of all that ranks say and how they end, the command says the cause."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import CrashLoopError
from groundup.launcher import Place, restart_cause
from groundup.log import JsonLines
from groundup.torchrun import LastWords, Restarts, cause, last_words

LOST = LastWords(6, "rank 0 of 2: another rank ended", [], seconds=1.0, follows=True, again=True)
STOPPED = LastWords(75, "asked to stop (SIGTERM)", [], seconds=2.0, follows=False)
FULL = LastWords(6, "no space left on the disk", ["why"], seconds=3.0, follows=False)


@pytest.mark.parametrize(
    ("words", "ends", "code", "message"),
    [
        ({0: LOST, 1: FULL}, {0: 6, 1: 6}, 6, "no space left"),
        ({0: LOST}, {0: 6, 1: -signal.SIGKILL}, 6, r"rank 1 was killed by SIGKILL \(out of memory"),
        ({0: STOPPED}, {1: -signal.SIGSEGV, 0: 75}, 6, "rank 1 was killed by SIGSEGV, so"),
        ({0: STOPPED, 1: FULL}, {0: 75, 1: 6}, 6, "no space left"),
        ({0: STOPPED, 1: LOST}, {0: 75, 1: 6}, 75, "asked to stop"),
        ({0: FULL}, {0: 6, 1: -signal.SIGTERM}, 6, "no space left"),
        ({}, {1: 1, 0: -signal.SIGTERM}, 1, "rank 1 ended with code 1 without a word"),
    ],
)
def test_the_cause_is_what_did_not_follow_from_another(
    words: dict[int, LastWords], ends: dict[int, int], code: int, message: str
) -> None:
    error = cause(words, ends)
    assert error.exit_code == code
    assert re.search(message, error.message)


def test_last_words_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    for rank, each in ((0, FULL), (1, LOST)):
        (tmp_path / f"{rank}.json").write_text(json.dumps(vars(each)), encoding="utf-8")
    assert list(last_words(tmp_path).items()) == [(1, LOST), (0, FULL)]


HUNG = LastWords(6, "rank 1 on h (process 7) hangs at loop.py:9 step", [], seconds=1.0, follows=False, again=True)
PREEMPTED = LastWords(75, "asked to stop (SIGTERM): saved", [], seconds=1.0, follows=False)
BROKEN = LastWords(1, "unexpected error, a fault of Groundup: ValueError", [], seconds=1.0, follows=False, again=True)
KILLED = {1: -signal.SIGKILL}


def told_why(tmp_path: Path) -> dict[str, Any] | None:
    """What the first rank of the next start finds."""
    return restart_cause(Place(0, 2, 0, 2, "127.0.0.1", 1, 0, tmp_path / "words"))


def leave(folder: Path, words: LastWords, rank: int = 1) -> None:
    (folder / f"{rank}.json").write_text(json.dumps(vars(words)), encoding="utf-8")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "run" / "events.jsonl"


def rule(tmp_path: Path, events: Path, limit: int = 2, elastic: bool = False) -> Restarts:
    folder = tmp_path / "words"
    folder.mkdir()
    return Restarts(folder, limit, events, elastic=elastic)


@pytest.mark.parametrize(
    "words",
    [
        FULL,
        LastWords(2, "recipe", [], 1.0, False),
        LastWords(3, "data", [], 1.0, False),
        LastWords(4, "checkpoint", [], 1.0, False),
        LastWords(5, "locked", [], 1.0, False),
        LastWords(7, "diverged", [], 1.0, False),
        LastWords(8, "crash loop", [], 1.0, False),
        LastWords(130, "Ctrl-C", [], 1.0, False),
        PREEMPTED,
    ],
)
def test_what_another_start_cannot_mend_ends_the_command(tmp_path: Path, events: Path, words: LastWords) -> None:
    restarts = rule(tmp_path, events)
    leave(tmp_path / "words", words)
    assert not restarts.failed({1: words.exit_code})
    assert restarts.last is not None and restarts.last.error.exit_code == words.exit_code


def test_killed_hung_and_lost_ranks_are_started_again_and_the_next_ones_are_told_why(
    tmp_path: Path, events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restarts = rule(tmp_path, events, limit=3)
    assert restarts.failed(KILLED)
    told = told_why(tmp_path)
    assert told is not None and (told["rank"], told["signal"], told["number"], told["of"]) == (1, "SIGKILL", 1, 3)
    assert "rank 1 was killed by SIGKILL" in told["cause"]
    assert told_why(tmp_path) is None, "told once"
    leave(tmp_path / "words", HUNG)
    assert restarts.failed({1: 6})
    assert last_words(tmp_path / "words") == {}, "words of the last start are no words of the next"
    told = told_why(tmp_path)
    assert told is not None and (told["rank"], told["exit_code"]) == (1, 6) and "hangs at" in told["cause"]
    leave(tmp_path / "words", LOST, rank=0)
    assert restarts.failed({0: 6})
    assert not restarts.failed({}) and restarts.last is not None, "four in a row"
    assert "another machine has not been heard of" in restarts.last.error.message


def test_starts_without_a_checkpoint_in_between_are_a_crash_loop(tmp_path: Path, events: Path) -> None:
    restarts = rule(tmp_path, events, limit=2)
    assert restarts.failed(KILLED) and restarts.failed(KILLED)
    JsonLines(events).write({"event": "checkpoint_saved", "step": 5})
    assert restarts.failed(KILLED) and restarts.failed(KILLED), "a checkpoint begins the count anew"
    assert not restarts.failed(KILLED)
    assert restarts.last is not None
    error = restarts.last.error
    assert isinstance(error, CrashLoopError) and error.exit_code == 8 and len(error.message) <= 200
    assert "3 starts in a row" in error.message and "rank 1 was killed by SIGKILL" in error.message


def test_no_restarts_where_none_are_wanted_and_none_for_the_same_fault_of_ours(tmp_path: Path, events: Path) -> None:
    never = rule(tmp_path, events, limit=0)
    assert not never.failed(KILLED) and never.last is not None and never.last.error.exit_code == 6
    restarts = Restarts(tmp_path / "words", 5, events)
    leave(tmp_path / "words", BROKEN)
    assert restarts.failed({1: 1})
    leave(tmp_path / "words", BROKEN)
    assert not restarts.failed({1: 1}) and restarts.last is not None and restarts.last.error.exit_code == 1


def test_where_fewer_machines_go_on_a_preempted_one_is_no_end(tmp_path: Path, events: Path) -> None:
    restarts = rule(tmp_path, events, limit=1, elastic=True)
    for _ in range(3):
        leave(tmp_path / "words", PREEMPTED)
        assert restarts.failed({1: 75}), "its state is saved, so this does not count"
    restarts.joined()
    assert told_why(tmp_path) == {"cause": "another machine came"}


def test_who_waits_for_another_machine_is_told_so(
    tmp_path: Path, events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "words").mkdir()
    for machines in (1, 2):
        assert Restarts(tmp_path / "words", 3, events, machines=machines).failed(KILLED)
    alone, several = (record.getMessage() for record in caplog.records)
    assert alone.endswith("(1 of 3)") and several.endswith("(1 of 3), as soon as 2 machines are there")


def test_words_that_a_full_disk_cut_are_none(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps(vars(FULL)), encoding="utf-8")
    (tmp_path / "1.json").write_text(json.dumps(vars(LOST))[:30], encoding="utf-8")
    (tmp_path / "2.json").write_text("", encoding="utf-8")
    (tmp_path / "3.json").write_text('{"exit_code": 6}', encoding="utf-8")
    assert list(last_words(tmp_path)) == [0]
