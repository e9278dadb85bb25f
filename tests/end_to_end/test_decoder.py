"""Raw text -> prepare -> pretrain -> instruct -> evaluate -> export -> a chat reply, with a tiny decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import groundup
from groundup import stage
from groundup.errors import DataError, LockedError, RecipeError
from groundup.locks import lock
from groundup.log import read_lines
from groundup.pipeline import RunResult, run_folder, status
from tests.end_to_end import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    path = tiny.write_recipe(tmp_path_factory.mktemp("run"))
    return path, groundup.run(groundup.load_recipe(path))


def test_every_stage_is_done_and_verifies(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    names = [entry["name"] for entry in result.stages]
    assert names == [
        "corpus",
        "contamination",
        "tokenizer",
        "fertility",
        "shards",
        "conversations",
        "questions",
        "pretrain",
        "instruct",
        "evaluate",
        "export",
    ]
    for entry in result.stages:
        assert entry["state"] == "done"
        assert stage.verify(Path(entry["folder"]))[1] == []


def test_the_run_folder_explains_itself(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    lines = read_lines(result.folder / "metrics.jsonl")
    for phase in ("pretrain", "instruct"):
        assert [line["step"] for line in lines if line["phase"] == phase and "loss" in line] == list(range(1, 21))
    last = [line for line in lines if line["phase"] == "instruct" and "loss" in line][-1]
    assert last["loss"] == pytest.approx(last["loss_replay"] + 2.0 * last["loss_questions"], rel=1e-5)
    assert (result.folder / "report.html").stat().st_size > 10_000
    report = json.loads((result.folder / "report.json").read_text())
    assert report["parameters"] > 0


def test_evaluation_has_the_metrics_before_and_after(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    for name in ("bits_per_byte", "perplexity", "token_accuracy", "exact_match", "f1"):
        assert set(evaluation[name]) == set(evaluation[f"before_instruct:{name}"]) == {"value", "stderr", "n"}


def test_the_exported_model_answers(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    assert result.model_folder is not None
    model = groundup.load_model(result.model_folder)
    reply = "".join(model.chat().reply("What is the capital of Normarland?"))
    assert isinstance(reply, str)


def test_a_second_run_does_nothing(finished: tuple[Path, RunResult]) -> None:
    path, result = finished
    before = {entry["name"]: entry["fingerprint"] for entry in result.stages}
    mtimes = {name: (Path(result.folder) / "stages" / name / "manifest.json").stat().st_mtime_ns for name in before}
    again = groundup.run(groundup.load_recipe(path))
    assert {entry["name"]: entry["fingerprint"] for entry in again.stages} == before
    for name, mtime in mtimes.items():
        assert (again.folder / "stages" / name / "manifest.json").stat().st_mtime_ns == mtime


def test_a_change_redoes_only_what_it_touches(finished: tuple[Path, RunResult]) -> None:
    path, result = finished
    before = {entry["name"]: entry["fingerprint"] for entry in result.stages}
    changed = status(groundup.load_recipe(path, ["instruct.lambda=3", "runtime.threads=2"]))
    assert [entry["name"] for entry in changed if entry["state"] == "done"] == [
        "corpus", "contamination", "tokenizer", "fertility", "shards", "conversations", "questions", "pretrain",
    ]  # fmt: skip
    assert next(entry for entry in changed if entry["name"] == "instruct")["fingerprint"] != before["instruct"]


def test_a_second_run_at_the_same_time_is_told_who_holds_it(finished: tuple[Path, RunResult]) -> None:
    path, _ = finished
    recipe = groundup.load_recipe(path)
    folder = run_folder(recipe)
    with lock(folder.with_name(folder.name + ".lock")), pytest.raises(LockedError, match="held by process"):
        groundup.run(recipe)


def test_missing_sections_and_data_are_named(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, instruct=None)
    with pytest.raises(RecipeError, match="no 'instruct:' section"):
        groundup.instruct(groundup.load_recipe(path))
    with pytest.raises(DataError, match="no such file"):
        groundup.prepare(groundup.load_recipe(path, ["corpus.sources.0.path=nowhere.jsonl"]))
    with pytest.raises(RecipeError, match=r"pretrain\.mixture names 'novels'"):
        groundup.load_recipe(path, ["pretrain.mixture.novels=1"])


def test_without_instruction_the_base_model_is_evaluated_and_exported(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, instruct=None)
    result = groundup.run(groundup.load_recipe(path, ["pretrain.tokens=2048"]))
    assert [entry["state"] for entry in result.stages] == ["done"] * 8
    assert result.model_folder is not None
