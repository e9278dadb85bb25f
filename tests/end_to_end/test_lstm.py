"""Raw text -> a chat reply with a tiny LSTM that carries its state; early stopping and averaged weights on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import stage
from groundup.errors import RecipeError
from groundup.models import LSTM
from groundup.pipeline import RunResult
from tests.end_to_end import tiny

MODEL = {"kind": "lstm", "context_length": 64, "num_layers": 2, "hidden_size": 32, "dropout": 0.1}


def sections() -> dict[str, Any]:
    values = tiny.recipe(Path("nowhere"))
    pretrain = {
        **values["pretrain"],
        "order": "continuous",
        "optimizer": {"kind": "lion", "learning_rate": 0.01},
        "schedule": {"kind": "one_cycle"},
        "average": {"decay": 0.9},
        "loss": {"label_smoothing": 0.05},
    }
    return {"model": MODEL, "pretrain": pretrain}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("run")
    path = tiny.write_recipe(folder, **sections())
    values = groundup.load_recipe(
        path,
        [
            "instruct.validation={every_steps: 2, rows: 4}",
            "instruct.early_stopping={patience: 0, min_improvement: 0.9}",
            "instruct.optimizer={kind: adafactor}",
        ],
    )
    return groundup.run(values)


def test_every_stage_is_done_and_verifies(finished: RunResult) -> None:
    for entry in finished.stages:
        assert entry["state"] == "done"
        assert stage.verify(Path(entry["folder"]))[1] == []


def test_what_was_asked_for_decides_what_is_kept(finished: RunResult) -> None:
    summaries = {entry["name"]: entry.get("summary", {}) for entry in finished.stages}
    assert summaries["pretrain"]["weights"] == "checkpoints/step-00000020/average.safetensors"
    assert summaries["instruct"]["weights"] == "best/step-00000002/model.safetensors"
    assert summaries["instruct"]["steps"] == 4
    evaluation = json.loads((finished.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert 0 < evaluation["bits_per_byte"]["value"] < 20


def test_the_exported_model_answers(finished: RunResult) -> None:
    assert finished.model_folder is not None
    loaded = groundup.load_model(finished.model_folder)
    assert isinstance(loaded.model, LSTM)
    assert isinstance("".join(loaded.chat().reply("What is the capital of Normarland?")), str)


def test_a_start_that_the_model_cannot_have_is_refused(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, **sections())
    with pytest.raises(RecipeError, match=r"bigrams needs model\.kind: decoder"):
        groundup.load_recipe(path, ["pretrain.start=bigrams"])
