"""Preferences as the last phase of a recipe: from records to a model that prefers the better answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from groundup import config
from groundup.errors import RecipeError
from groundup.export import open_source
from groundup.pipeline import Recipe, run, status
from groundup.pipeline.context import Context
from groundup.pipeline.stages import heldout_sets
from groundup.tokens import REFERENCES_FILE
from groundup.train.guards import StopRequest
from tests.end_to_end import tiny

ADAMW = {"kind": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0}
CONTEXT = 128


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe with preferences; `changes` are of its section."""
    tiny.write_data(folder)
    tiny.write_preferences(folder)
    recipe = tiny.recipe(folder)
    recipe["model"]["context_length"] = CONTEXT
    recipe["preferences"] = {
        "sources": [{"name": "pairs", "path": str(folder / "pairs.jsonl")}],
        "heldout": [{"name": "pairs", "path": str(folder / "pairs-heldout.jsonl")}],
        "epochs": 6.0,
        "global_batch_tokens": 512,
        "optimizer": ADAMW,
        "precision": "fp32",
        **changes,
    }
    return recipe


def built(folder: Path, **changes: Any) -> Recipe:
    return config.build(Recipe, values(folder, **changes), "tiny")


def folders(recipe: Recipe) -> dict[str, Path]:
    return {entry["name"]: Path(entry["folder"]) for entry in status(recipe)}


def evaluation(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folders(recipe)["evaluate"] / "evaluation.json").read_text())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("preferences")


@pytest.fixture(scope="module")
def tuned(place: Path) -> Recipe:
    """The recipe, run to its end with text and conversations beside the preferences."""
    recipe = built(place, replay_fraction=0.25, instruct_fraction=0.25)
    run(recipe)
    return recipe


def test_held_out_pairs_are_told_apart_and_forgetting_is_measured(tuned: Recipe) -> None:
    found = evaluation(tuned)
    assert found["reward_accuracy"]["value"] > 0.65 and found["reward_accuracy"]["stderr"] < 0.15
    assert found["reward_accuracy"] == found["reward_accuracy/pairs"] and found["reward_accuracy"]["n"] == 16
    assert found["reward_margin"]["value"] > 2 * found["reward_margin"]["stderr"] > 0
    for phase in ("instruct", "preferences"):
        assert {"value", "stderr", "n"} == set(found[f"before_{phase}:bits_per_byte"])


def test_the_log_shows_each_loss_and_held_out_accuracy(tuned: Recipe) -> None:
    folder = folders(tuned)["preferences"]
    lines = [json.loads(line) for line in next(folder.rglob("metrics.jsonl")).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert {"loss_pairs", "loss_replay_text", "loss_instruct_questions"} <= steps[0].keys()
    assert steps[0]["loss_pairs"] == pytest.approx(np.log(2), abs=1e-4), "the model is its own reference at first"
    assert steps[-1]["loss_pairs"] < steps[0]["loss_pairs"]
    validation = next(line["validation"] for line in reversed(lines) if "validation" in line)
    assert validation["loss"] == validation["preference_loss"]
    assert {"reward_accuracy", "reward_margin", "bits_per_byte"} <= validation.keys()


def test_the_model_that_comes_out_is_the_tuned_one(tuned: Recipe, place: Path) -> None:
    manifests = {name: json.loads((folder / "manifest.json").read_text()) for name, folder in folders(tuned).items()}
    assert manifests["export"]["summary"]["from"] == "preferences"
    assert manifests["preferences"]["summary"]["starts_from"] == "instruct"
    assert manifests["preferences"]["summary"]["objective"]["kind"] == "dpo"
    records = json.loads((folders(tuned)["comparisons"] / "report.json").read_text())["train"]["pairs"]["records"]
    assert records["total"] == records["accepted"] == 32
    report = json.loads((place / "work" / "runs" / "tiny" / "report.json").read_text())
    assert list(report["metrics_by_phase"]) == ["base", "instruct", "preferences"]
    assert report["metrics"]["reward_accuracy"]


def test_another_rule_for_pairs_reuses_rows_and_reference(tuned: Recipe, place: Path) -> None:
    other = folders(built(place, replay_fraction=0.25, instruct_fraction=0.25, objective={"kind": "ipo"}))
    before = folders(tuned)
    assert all(other[name] == before[name] for name in ("comparisons", "instruct", "reference"))
    assert other["preferences"] != before["preferences"]


def test_the_reference_is_what_the_start_says(tuned: Recipe) -> None:
    found = np.fromfile(folders(tuned)["reference"] / "train" / "pairs" / REFERENCES_FILE, "<f4")
    assert (found <= 0).all() and (found < 0).sum() == 64 and found.min() > -200


@pytest.mark.parametrize("kind", ["kto", "orpo"])
def test_the_other_rules_train_from_the_pretrained_model_too(kind: str, tmp_path: Path) -> None:
    changed = values(tmp_path, objective={"kind": kind}, epochs=2.0)
    changed["model"]["context_length"] = 512
    recipe = config.build(Recipe, {**changed, "instruct": None}, "tiny")
    run(recipe, until="evaluate")
    assert ("reference" in folders(recipe)) == (kind != "orpo")
    assert evaluation(recipe)["reward_accuracy"]["n"] == (32 if kind == "kto" else 16)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tokens": 512}, "tokens or as epochs"),
        ({"epochs": None}, "tokens or as epochs"),
        ({"loss": {"z_loss": 0.1}}, "log-probabilities"),
        ({"replay_fraction": 0.5, "instruct_fraction": 0.5}, "must be below 1"),
        ({"sources": [{"name": "a", "path": "x", "format": "judged"}]}, "objective: {kind: kto}"),
        ({"mixture": {"other": 1.0}}, "no source of it"),
        ({"objective": {"kind": "ppo"}}, "ppo"),
    ],
)
def test_faults_of_the_section_are_told(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        built(tmp_path, **changes)
    assert fault in " ".join([caught.value.message, *caught.value.details])


def test_adapters_learn_on_the_instructed_weights(tmp_path: Path) -> None:
    recipe = built(tmp_path, tune={"kind": "lora", "rank": 4, "alpha": 16.0}, heldout=[], epochs=2.0)
    folder = run(recipe).folder
    manifest = json.loads((folders(recipe)["preferences"] / "manifest.json").read_text(encoding="utf-8"))
    held = load_file(folders(recipe)["preferences"] / manifest["summary"]["weights"])
    assert held and all(".adapter." in name for name in held)
    instructed = json.loads((folders(recipe)["instruct"] / "manifest.json").read_text(encoding="utf-8"))
    before = load_file(folders(recipe)["instruct"] / instructed["summary"]["weights"])
    source = open_source(folder / "model")
    after = {name: source[name] for name in source}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name.replace(".adapter.up", ".weight") for name in held if name.endswith(".adapter.up")}
    said = json.loads((folder / "model" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert said["r"] == 4 and not said["base_model_name_or_path"], "what it was tuned from has no name elsewhere"


def test_held_out_preferences_are_looked_for_in_the_text(tmp_path: Path) -> None:
    recipe = built(tmp_path)
    sets = heldout_sets(Context(recipe, tmp_path / "run", StopRequest()))
    assert "heldout-preferences-pairs" in {each.name for each in sets}


def test_models_that_cannot_keep_answers_apart_are_refused(tmp_path: Path) -> None:
    changed = values(tmp_path)
    changed["model"] = {"kind": "lstm", "context_length": CONTEXT, "num_layers": 1, "hidden_size": 32}
    with pytest.raises(RecipeError) as caught:
        config.build(Recipe, changed, "tiny")
    assert "a lstm cannot" in " ".join([caught.value.message, *caught.value.details])


def test_conversations_beside_them_need_an_instruct_section(tmp_path: Path) -> None:
    changed = values(tmp_path, instruct_fraction=0.25)
    with pytest.raises(RecipeError) as caught:
        config.build(Recipe, {**changed, "instruct": None}, "tiny")
    assert "add an 'instruct:' section" in " ".join([caught.value.message, *caught.value.details])
