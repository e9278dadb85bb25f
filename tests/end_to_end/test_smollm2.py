"""SmolLM2 goes on with Austen: its recipe, shortened, makes it better on a novel that it was not trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import groundup
from groundup.export import import_model, load_model
from groundup.pipeline import RunResult
from tests.export.smollm2 import package_file

RECIPE = Path(__file__).parents[2] / "recipes" / "smollm2-135m.yaml"


def perplexity(run: RunResult) -> float:
    found = json.loads((run.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    return float(found["perplexity/test/persuasion"]["value"])


@pytest.mark.slow
def test_some_steps_on_austen_lower_the_perplexity_on_persuasion(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
    import_model(package_file(), tmp_path / "model", with_transformers=False)
    common = [
        f"pretrain.from={tmp_path / 'model'}",
        f"tokenizer.path={tmp_path / 'model'}",
        f"runtime.workdir={tmp_path / 'work'}",
        "evaluate.max_rows=8",
    ]
    before = groundup.run(groundup.load_recipe(RECIPE, [*common, "pretrain.tokens=0", "name=before"]), until="evaluate")
    after = groundup.run(groundup.load_recipe(RECIPE, [*common, "pretrain.tokens=12288"]))
    assert perplexity(after) < 0.99 * perplexity(before)
    checks = next(entry["summary"] for entry in after.stages if entry["name"] == "export")["checks"]
    assert checks["transformers"]["difference"] < 1e-4
    assert after.model_folder is not None and load_model(after.model_folder).generate("It is a truth")


@pytest.mark.slow
def test_lora_runs_in_four_gigabytes(tmp_path: Path) -> None:
    """A process of its own, whose peak is that of everything from the model's folder to the last step."""
    import_model(package_file(), tmp_path / "model", with_transformers=False)
    words = [
        f"pretrain.from={tmp_path / 'model'}",
        f"tokenizer.path={tmp_path / 'model'}",
        f"runtime.workdir={tmp_path / 'work'}",
        "instruct.tokens=6144",
    ]
    recipe = RECIPE.with_name("smollm2-lora.yaml")
    process = subprocess.Popen([sys.executable, "-m", "groundup", "instruct", str(recipe), *words, "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    folder = tmp_path / "work" / "runs" / "smollm2-lora" / "stages" / "instruct"
    summary = json.loads((folder / "manifest.json").read_text())["summary"]
    assert used.ru_maxrss * 1024 < 4e9
    assert summary["trained_parameters"] < 0.3 * summary["parameters"]
