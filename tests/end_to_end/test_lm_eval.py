"""SmolLM2-135M-Instruct has the same scores here and in lm-eval with transformers, item by item."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.export import import_model
from tests.export.smollm2 import package_file

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / ".venv-peers"
NAME = "evaluation-test"


@pytest.mark.slow
def test_the_same_scores_as_lm_eval(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
    if not list(PEERS.glob("lib/python3*/site-packages/lm_eval")):
        pytest.skip("lm-eval is not in the peers' environment; make bench-evaluation puts it there")
    import_model(package_file(), tmp_path / "model", with_transformers=False)
    command = ["benchmarks.evaluation", "--model", str(tmp_path / "model"), "--atlas", "40", "--name", NAME]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = ROOT / "benchmarks" / "results" / f"{NAME}.json"
    found = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    assert not found["failed"]
    assert set(found["agreement"]) == {"lm-eval: transformers", "lm-eval: groundup"}
    for tasks in found["agreement"].values():
        for task, agreement in tasks.items():
            assert agreement["log_likelihood_difference"] < 1e-3, task
            for name, (ours, theirs) in agreement["metrics"].items():
                assert ours == pytest.approx(theirs, abs=1e-12 if "accuracy" in name else 1e-3), (task, name)
