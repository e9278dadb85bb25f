"""The Ray script run by Ray itself, on one machine: the command runs as its task, and its exit code comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import groundup
from groundup.deployment import Cluster, job_of, render
from groundup.pipeline import status
from tests.end_to_end import tiny

pytest.importorskip("ray", reason="ray is not installed")


@pytest.mark.slow
def test_the_script_runs_the_recipe_and_hands_its_exit_code_on(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, runtime={**tiny.RUNTIME, "workdir": str(tmp_path / "work"), "device": "cpu"})
    recipe = groundup.load_recipe(path)
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
    for words, code in (([], 0), (["pretrain.tokens=-1"], 2)):
        script = tmp_path / "job.py"
        job = job_of(recipe, "pretrain", str(path), words)
        script.write_text(render("ray", job, Cluster()), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False, timeout=300
        )
        assert done.returncode == code, done.stderr
    entries = {entry["name"]: entry["state"] for entry in status(recipe)}
    assert entries["pretrain"] == "done"
