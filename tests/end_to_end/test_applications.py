"""The recipes of applications, with a tiny budget: every stage runs, is scored on its task, and shows samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.parallel.fake import fake_world
from groundup.pipeline import load_recipe, run
from groundup.tokens import Batch
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RECIPES = Path(__file__).parents[2] / "recipes"
METRICS = {
    "translation-mini": ("into-chinese/bleu", "into-chinese/chrf", "into-english/bleu", "into-english/exact_match"),
    "summarise-mini": ("summaries/rouge1", "summaries/rougeL"),
    "qa-mini": ("english/exact_match", "english/f1", "chinese/exact_match", "chinese/f1"),
    "dialogue-mini": ("exact_match", "f1", "tasks/coverage", "tasks/success"),
    "story-mini": ("bits_per_byte/test/heldout", "stories/coverage", "stories/distinct_2", "stories/repetition"),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_step_of_each_phase_is_simulated(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", ["runtime.device=cpu", "runtime.compile=off"])
    assert recipe.instruct is not None
    length, cpu = recipe.model.context_length, torch.device("cpu")
    for phase in (recipe.pretrain, recipe.instruct):
        rows = phase.global_batch_tokens // length
        with fake_world(1) as mesh:
            vocab_size = recipe.tokenizer.vocab_size
            state = build_state(recipe.model, vocab_size, phase, recipe.runtime, recipe.seed, device=cpu, mesh=mesh)
            tokens = torch.zeros(rows, length, dtype=torch.int64)
            places = torch.zeros_like(tokens, dtype=torch.int32)
            batch = Batch(tokens, tokens, places, places, torch.zeros(rows, dtype=torch.int64))
            objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
            result = train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
            assert result.loss.shape == ()


@pytest.mark.parametrize(
    "name",
    ["dialogue-mini", *(pytest.param(name, marks=pytest.mark.slow) for name in METRICS if name != "dialogue-mini")],
)
def test_a_recipe_runs_to_its_scores(name: str, tmp_path: Path) -> None:
    if name == "translation-mini":
        pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra 'metrics')")
    path = RECIPES / f"{name}.yaml"
    tasks = range(len(load_recipe(path).evaluate.tasks))
    overrides = [
        "pretrain.tokens=8192",
        "instruct.tokens=8192",
        "model.num_layers=1",
        "model.hidden_size=48",
        "model.ffn_size=64",
        "evaluate.max_questions=4",
        "evaluate.max_rows=4",
        "evaluate.max_new_tokens=8",
        "evaluate.continuation_tokens=4",
        *(f"evaluate.tasks.{task}.limit=4" for task in tasks),
        *(f"evaluate.tasks.{task}.max_new_tokens=8" for task in tasks),
        "runtime={device: cpu, threads: 1, compile: off}",
        f"runtime.workdir={tmp_path}",
    ]
    done = run(load_recipe(path, overrides))
    folder = done.folder / "stages" / "evaluate"
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert set(METRICS[name]) <= found.keys()
    assert all(f"before_instruct:{metric}" in found for metric in METRICS[name])
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    assert all(len(task["items"]) == 4 for task in samples["instruct"]["tasks"].values())
    assert done.model_folder is not None
