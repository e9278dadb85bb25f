"""Faults by the command, as an operator meets them: a hang and a crash, their codes, what is written, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from groundup.log import read_lines
from tests.end_to_end import tiny

TIMEOUT_SECONDS = 4.0


def pretrain(recipe: Path, faults: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "groundup", "pretrain", str(recipe)]
    environment = {**os.environ, "FAULT": faults, "GROUNDUP_ALLOCATOR": "none"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_a_hang_and_a_crash_are_named_and_gone_on_from(tmp_path: Path) -> None:
    runtime = {
        **tiny.recipe(tmp_path)["runtime"], "test_faults": True, "checkpoint_every_seconds": 1e-6,
        "step_timeout_seconds": TIMEOUT_SECONDS,
    }  # fmt: skip
    recipe, run = tiny.write_recipe(tmp_path, runtime=runtime), tmp_path / "work" / "runs" / "tiny"
    hung = pretrain(recipe, "hang@5")
    seconds = time.time() - (run / "metrics.jsonl").stat().st_mtime
    assert hung.returncode == 6, hung.stderr
    assert seconds < TIMEOUT_SECONDS + 10
    assert "step of step 5 hangs" in hung.stderr and "before_step" in hung.stderr
    assert "before_step" in (run / "stacks-rank-0.txt").read_text()
    (event,) = [event for event in read_lines(run / "events.jsonl") if event["event"] == "watchdog"]
    assert (event["rank"], event["section"], event["step"]) == (0, "step", 5)
    crashed = pretrain(recipe, "crash@9")
    assert crashed.returncode == -signal.SIGKILL
    assert json.loads((run / "heartbeats" / "rank-0.json").read_text())["phase"] == "pretrain"
    done = pretrain(recipe, "")
    assert done.returncode == 0, done.stderr
    restarted = [event for event in read_lines(run / "events.jsonl") if event["event"] == "restarted"]
    assert [(event["cause"], event["step"]) for event in restarted] == [("hung", 4), ("killed", 8)]
    steps = [line["step"] for line in read_lines(run / "metrics.jsonl") if "loss" in line]
    assert steps == list(range(1, 21))
