"""The battery of faults in its quick tier: what needs no interpreter of its own for each attempt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("parts", ["crash,corruption", "content,resources"])
def test_the_quick_tier_holds(parts: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.reliability", "--dry", "--only", parts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert said == [*parts.split(","), "left"]
    assert done.stdout.splitlines()[-1].startswith("left behind []")
