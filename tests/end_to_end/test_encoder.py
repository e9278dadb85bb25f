"""Raw text -> prepare -> pretrain -> task -> evaluate -> export -> a filled gap, with a tiny encoder."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import cli, config, stage
from groundup.errors import RecipeError
from groundup.log import read_lines
from groundup.pipeline import RunResult
from tests.end_to_end import tiny

MODEL = {
    "kind": "encoder", "context_length": 32, "num_layers": 1, "hidden_size": 32, "num_heads": 2, "ffn_size": 64,
    "next_sentence": True,
}  # fmt: skip
PHASE = {
    "tokens": 20 * 512, "global_batch_tokens": 512, "precision": "fp32",
    "optimizer": {"kind": "adamw", "learning_rate": 0.005},
}  # fmt: skip


def write_task(folder: Path) -> dict[str, Any]:
    """Texts with and without a river in them, and a record that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(3)
    for name, count in (("train", 200), ("dev", 60)):
        records = []
        for _ in range(count):
            words = [draw.choice(tiny.WORDS) for _ in range(5)]
            records.append({"text": " ".join(words), "label": "wet" if "river" in words else "dry"})
        (folder / f"{name}-task.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records) + '{"text": 1}\n')
    sources = [{"name": name, "path": str(folder / f"{name}-task.jsonl")} for name in ("train", "dev")]
    return {
        "kind": "sequence",
        "sources": sources[:1],
        "heldout": sources[1:],
        **copy.deepcopy(PHASE),
        "tokens": 60 * 512,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("run")
    pretrain = {**PHASE, "masking": {"whole_words": True}}
    task = write_task(folder)
    path = tiny.write_recipe(folder, model=MODEL, pretrain=pretrain, instruct=None, task=task)
    return path, groundup.run(groundup.load_recipe(path))


def test_every_stage_is_done_and_verifies(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    names = [entry["name"] for entry in result.stages]
    assert names[5:] == ["examples", "pretrain", "task", "evaluate", "export"]
    for entry in result.stages:
        assert entry["state"] == "done"
        assert stage.verify(Path(entry["folder"]))[1] == []


def test_both_heads_and_the_task_are_in_the_metrics(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    lines = read_lines(result.folder / "metrics.jsonl")
    pretrained = [line for line in lines if line["phase"] == "pretrain" and "loss" in line]
    assert pretrained[-1]["loss"] == pytest.approx(
        pretrained[-1]["loss_text"] + pretrained[-1]["loss_text_next_sentence"], rel=1e-5
    )
    assert pretrained[-1]["loss_text"] < pretrained[0]["loss_text"]
    assert [line["step"] for line in lines if line["phase"] == "task" and "loss" in line] == list(range(1, 61))


def test_the_task_is_learnt_and_its_records_accounted_for(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert evaluation["accuracy"]["value"] > 0.9
    assert evaluation["accuracy"]["n"] == 60
    assert evaluation["next_sentence_accuracy"]["n"] > 20
    assert {"bits_per_token", "macro_f1", "micro_f1", "matthews", "f1/wet", "accuracy/dev"} <= evaluation.keys()
    report = json.loads((result.folder / "stages" / "examples" / "report.json").read_text())
    assert report["train"]["train"]["records"]["total"] == 201
    assert report["train"]["train"]["records"]["rejected"] == {"no field 'label'": 1}


def test_the_model_of_the_task_opens_in_transformers(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    summary = next(entry["summary"] for entry in result.stages if entry["name"] == "export")
    assert summary["task"]["checks"]["transformers"]["difference"] < 1e-4
    assert json.loads((result.folder / "model" / "task" / "config.json").read_text())["id2label"] == {
        "0": "dry", "1": "wet",
    }  # fmt: skip


def test_the_exported_model_fills_gaps(finished: tuple[Path, RunResult], capsys: pytest.CaptureFixture[str]) -> None:
    _, result = finished
    text = "The capital of [MASK] is a [MASK]."
    assert cli.main(["generate", str(result.folder), "--fill-mask", text, "--top-k", "3", "--json"]) == 0
    gaps = json.loads(capsys.readouterr().out)["gaps"]
    assert [len(gap) for gap in gaps] == [3, 3]
    for gap in gaps:
        probabilities = [filling["probability"] for filling in gap]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1
    assert cli.main(["generate", str(result.folder), "--fill-mask", "no gap"]) == 2
    assert "no [MASK] in the text" in capsys.readouterr().err
    assert cli.main(["generate", str(result.folder), "Once"]) == 2
    assert "--fill-mask" in capsys.readouterr().err


def test_texts_with_several_labels_are_learnt_and_labelled(
    finished: tuple[Path, RunResult], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = finished
    recipe = config.read_yaml(path)
    draw = random.Random(4)
    for name, count in (("many", 600), ("many-dev", 60)):
        texts = [[draw.choice(tiny.WORDS) for _ in range(5)] for _ in range(count)]
        rows = (f"{' '.join(words)},{'|'.join(w for w in ('river', 'garden') if w in words)}" for words in texts)
        (path.parent / f"{name}.csv").write_text("text,label\n" + "".join(f"{row}\n" for row in rows))
    files = [{"name": name, "path": str(path.parent / f"{name}.csv")} for name in ("many", "many-dev")]
    more = {"kind": "multilabel", "sources": files[:1], "heldout": files[1:], "class_weights": "balanced"}
    recipe["task"] = {**recipe["task"], **more, "tokens": 200 * 512}
    recipe["name"] = "labels"
    path = path.with_name("labels.yaml")
    path.write_text(json.dumps(recipe))
    result = groundup.run(groundup.load_recipe(path))
    assert [entry["state"] for entry in result.stages if entry["name"] == "pretrain"] == ["done"]
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert evaluation["exact_match"]["value"] > 0.9 and evaluation["exact_match"]["n"] == 60
    assert evaluation["micro_f1"]["value"] > 0.9 and {"macro_f1", "f1/river", "f1/garden"} <= evaluation.keys()
    written = json.loads((result.folder / "model" / "task" / "config.json").read_text())
    assert written["problem_type"] == "multi_label_classification"
    texts = [
        "stone river winter garden letter",
        "stone story winter captain letter",
        "stone story river captain letter",
    ]
    assert cli.main(["predict", str(path), *(f"--text={text}" for text in texts), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "multilabel"
    assert [each["labels"] for each in said["predictions"]] == [["garden", "river"], [], ["river"]]
    assert cli.main(["predict", str(path), "--text", texts[1], "--threshold", "0.0001"]) == 0
    assert capsys.readouterr().out.count("%") == 2, "all that reach the threshold"
    assert cli.main(["predict", str(path), "--text", texts[1], "--threshold", "2"]) == 2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model": MODEL}, "encoder needs pretrain.masking"),
        ({"pretrain": {**PHASE, "masking": {}}}, "masking needs model.kind: encoder"),
        ({"model": MODEL, "pretrain": {**PHASE, "masking": {"share": 0.5}}}, "above model.predicted_share"),
        ({"model": MODEL, "pretrain": {**PHASE, "masking": {}}, "instruct": {}}, "instruct"),
        ({"task": {"kind": "sequence", **PHASE}}, "task.sources"),
    ],
)
def test_what_a_model_cannot_do_is_refused(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, **{"instruct": None, **changes})
    with pytest.raises(RecipeError, match=fault):
        groundup.load_recipe(path)
