"""Raw text -> pretrain -> LoRA on the instructions -> evaluation, the merged model and its adapter folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from groundup import config
from groundup.errors import RecipeError
from groundup.export import load_model, open_source, save_model, with_adapter
from groundup.pipeline import Recipe, run
from groundup.pipeline.context import Context
from groundup.pipeline.run import run_folder, status
from groundup.pipeline.trained import trained_model
from groundup.stage import Finished
from groundup.train.guards import StopRequest
from tests.end_to_end import tiny

TUNE = {"kind": "lora", "rank": 4, "alpha": 16.0}


def recipe(folder: Path, **tune: object) -> Recipe:
    values = tiny.recipe(folder, runtime={**tiny.RUNTIME, "workdir": str(folder / "work")})
    values["instruct"]["tune"] = {**TUNE, **tune}
    return config.build(Recipe, values, "tiny")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    tiny.write_data(folder)
    made = recipe(folder)
    return made, run(made).folder


def test_the_phase_keeps_the_adapters_only(done: tuple[Recipe, Path]) -> None:
    _, folder = done
    manifest = json.loads((folder / "stages" / "instruct" / "manifest.json").read_text())
    summary = manifest["summary"]
    held = load_file(folder / "stages" / "instruct" / summary["weights"])
    assert all(".adapter." in name for name in held)
    assert summary["trained_parameters"] == sum(tensor.numel() for tensor in held.values())
    assert summary["trained_parameters"] < summary["parameters"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line.get("phase") == "instruct" and "loss" in line]
    assert losses[-1] < losses[0]


def test_the_folder_beside_the_model_merges_to_it(done: tuple[Recipe, Path], tmp_path: Path) -> None:
    made, folder = done
    names = {entry["name"]: entry for entry in status(made)}
    context = Context(made, run_folder(made), StopRequest())
    for name in ("tokenizer", "pretrain", "instruct"):
        path = folder / "stages" / name
        context.done[name] = Finished(path.resolve(), json.loads((path / "manifest.json").read_text()))
    assert names["export"], "the stage is listed"
    save_model(trained_model(context, "pretrain"), context.tokenizer(), tmp_path / "base", with_transformers=False)
    source = with_adapter(open_source(tmp_path / "base"), folder / "model" / "adapter")
    whole = load_file(folder / "model" / "model.safetensors")
    exported = load_model(folder / "model").model.state_dict()
    for name in source:
        torch.testing.assert_close(source[name], exported[name], rtol=1e-5, atol=1e-6)
    assert whole, "the merged model is whole"


def test_a_way_that_the_model_does_not_have_is_refused_before_any_work(tmp_path: Path) -> None:
    tiny.write_data(tmp_path)
    with pytest.raises(RecipeError, match="fits no layer"):
        run(recipe(tmp_path, targets=["wq"]))
    assert not list((tmp_path / "work").glob("stages/*/*/manifest.json"))
