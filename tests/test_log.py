"""Log lines cannot steer a terminal; JSON-lines files survive kills, NaN and a full disk; rates count new work only."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup import errors, log
from groundup.log import JsonLines, read_lines, rewrite_lines


@pytest.fixture(autouse=True)
def _restore_logger() -> Iterator[None]:
    state = (log.logger.handlers[:], log.logger.propagate, log.logger.level)
    yield
    log.logger.handlers[:], log.logger.propagate = state[0], state[1]
    log.logger.setLevel(state[2])


def test_logs_go_to_stderr_escaped_and_by_verbosity(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(0)
    log.logger.info("title \x1b]0;owned\x07")
    log.logger.debug("hidden")
    log.configure(-1)
    log.logger.info("quiet")
    log.logger.warning("loud")
    log.configure(1)
    log.logger.debug("details")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "title \\x1b]0;owned\\x07\nloud\ndetails\n"


@pytest.mark.parametrize("total", [None, 10.0])
def test_plain_progress_is_a_line_now_and_then(
    total: float | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    log.configure(0)
    with log.progress("shards", total, "documents") as bar:
        bar.start_at(4)
        for _ in range(4):
            clock[0] += 4
            bar.advance(1, "loss 2.5")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0] == (
        "shards: 7/10 documents, 0.2/s, 12s left  loss 2.5" if total else "shards: 7 documents, 0.2/s  loss 2.5"
    )


def test_a_terminal_gets_a_bar_and_nothing_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with log.progress("shards", 3, "documents [red]") as bar:
        for _ in range(3):
            bar.advance(1, "[/nonsense]")
        assert bar.done == 3
    assert "Traceback" not in capsys.readouterr().err


def test_quiet_shows_no_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(-1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(log, "PLAIN_INTERVAL_SECONDS", 0.0)
    with log.progress("shards", 3, "documents") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-5, "0s"), (59.9, "59s"), (61, "1m01s"), (3600, "1h00m"), (90061, "25h01m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert log._duration(seconds) == text


def test_lines_are_appended_to_every_path_and_hold_no_nan(tmp_path: Path) -> None:
    paths = (tmp_path / "a" / "metrics.jsonl", tmp_path / "b.jsonl")
    writer = JsonLines(*paths)
    writer.write({"step": 1, "loss": float("nan"), "inner": {"x": [float("inf"), 1.0]}, "text": "日本\u2028"})
    JsonLines(*paths).write({"step": 2})
    for path in paths:
        assert "NaN" not in path.read_text()
        assert read_lines(path) == [
            {"step": 1, "loss": None, "inner": {"x": [None, 1.0]}, "text": "日本\u2028"},
            {"step": 2},
        ]


@given(cut=st.integers(0, 60))
def test_a_line_cut_by_a_kill_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    JsonLines(path).write({"step": 1})
    whole = path.read_bytes()
    line = json.dumps({"step": 2, "text": "é" * 10}).encode() + b"\n"
    path.write_bytes(whole + line[: min(cut, len(line) - 2)])
    JsonLines(path).write({"step": 3})
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


def test_broken_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n\x00\x00\n[1]\n{"b"\n' + b"[" * 200_000 + b'\n\xff{"c": 2}\n{"d": 4}\r\n')
    assert read_lines(path) == [{"a": 1}, {"d": 4}]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_full_disk_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = JsonLines(tmp_path / "gone" / "metrics.jsonl")
    (tmp_path / "gone").rmdir()
    with caplog.at_level(logging.WARNING, logger="groundup"):
        log.logger.propagate = True
        writer.write({"step": 1})
        writer.write({"step": 2})
    assert len({id(record) for record in caplog.records}) == 1, "twice where a test before configured the log"
    assert "going on without" in caplog.text


def test_rewriting_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rewrite_lines(path, [{"step": 1}, {"step": 2}])
    rewrite_lines(path, [{"step": 1, "loss": float("nan")}])
    assert read_lines(path) == [{"step": 1, "loss": None}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_a_full_disk_cut_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.write({"step": 1})
    real = Path.open

    def full(self: Path, *given: Any, **named: Any) -> Any:
        with real(self, "a") as handle:
            handle.write('{"step": 2, "lo')
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        writer.write({"step": 2})
    writer.write({"step": 3})
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


def test_what_can_be_made_again_is_warned_of_once_a_folder_and_other_errors_are_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.logger.propagate = True
    with caplog.at_level(logging.WARNING, logger="groundup"):
        for name in ("stages.json", "report.html"):
            with log.dispensable(tmp_path / name):
                raise OSError(errno.ENOSPC, "No space left on device")
        with log.dispensable(tmp_path / "report.html"), errors.resource_errors(tmp_path):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert len({id(record) for record in caplog.records}) == 1
    assert "stages.json: No space left on device; going on without what is written there" in caplog.text
    for error in (OSError(errno.EROFS, "Read-only file system"), ValueError("x")):
        with pytest.raises(type(error)), log.dispensable(tmp_path / "x"):
            raise error


def test_rewriting_on_a_full_disk_leaves_the_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    rewrite_lines(path, [{"step": 1}])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        rewrite_lines(path, [{"step": 1}, {"step": 2}])
    assert read_lines(path) == [{"step": 1}] and list(tmp_path.iterdir()) == [path]
