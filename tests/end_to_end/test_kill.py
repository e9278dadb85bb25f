"""kill -9 at any moment, then the same command: it goes on, and ends with the bits of a run never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import groundup
from groundup import stage
from groundup.log import read_lines
from groundup.pipeline import status
from tests.end_to_end import tiny


def state_hashes(recipe: Path, workdir: Path) -> dict[str, str]:
    entries = status(groundup.load_recipe(recipe, [f"runtime.workdir={workdir}"]))
    return {entry["name"]: stage.verify(Path(entry["folder"]))[0] for entry in entries}


def start(recipe: Path, workdir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "groundup", "run", str(recipe), f"runtime.workdir={workdir}", "-q"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def kill_and_compare(folder: Path, kills: int, seed: int) -> None:
    recipe = tiny.write_recipe(folder)
    started = time.monotonic()
    assert start(recipe, folder / "whole").wait() == 0
    whole_seconds = time.monotonic() - started
    moments = random.Random(seed)
    for _ in range(kills):
        process = start(recipe, folder / "killed")
        time.sleep(moments.uniform(0.2, 0.9) * whole_seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(recipe, folder / "killed").wait() == 0
    assert state_hashes(recipe, folder / "killed") == state_hashes(recipe, folder / "whole")
    lines = [line for line in read_lines(folder / "killed/runs/tiny/metrics.jsonl") if "loss" in line]
    assert [(line["phase"], line["step"]) for line in lines] == [
        (phase, step) for phase in ("pretrain", "instruct") for step in range(1, 21)
    ]


def test_two_kills_change_no_bit(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_twenty_kills_change_no_bit(tmp_path: Path, seed: int) -> None:
    kill_and_compare(tmp_path, kills=20, seed=seed)


def test_being_asked_to_stop_is_answered_with_its_code(tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path)
    metrics = tmp_path / "work/runs/tiny/metrics.jsonl"
    for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        before = len(read_lines(metrics))
        process = start(recipe, tmp_path / "work")
        while len(read_lines(metrics)) < before + 3 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    assert start(recipe, tmp_path / "work").wait() == 0
