"""Between two attempts: what changed is refused with its fields, damaged data before it trains; a proof of resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import cli, pipeline, stage
from groundup.errors import DataError, DivergedError, ModelFileError, RecipeError, first_line
from groundup.log import read_lines
from groundup.pipeline import changes
from groundup.train import checkpoint
from tests.end_to_end import tiny

BROKEN_OFF = "nan_loss@12"


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recipe whose pretraining ended at step 12 of 20, with checkpoints before it."""
    folder = tmp_path_factory.mktemp("half")
    values = tiny.recipe(folder)
    phase = {**values["pretrain"], "max_skipped_steps": 0}
    runtime = {**values["runtime"], "checkpoint_every_seconds": 1e-6, "test_faults": True}
    path = tiny.write_recipe(folder, pretrain=phase, runtime=runtime)
    with pytest.raises(DivergedError):
        pipeline.run(groundup.load_recipe(path), "pretrain", BROKEN_OFF)
    yield path


def refused(path: Path, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        pipeline.run(groundup.load_recipe(path, list(overrides)), "pretrain")
    assert caught.value.exit_code == 2 and len(first_line(caught.value)) <= 200
    assert "restore them, or give another name=" in first_line(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("overrides", "fields"),
    [
        (
            ["pretrain.optimizer.kind=muon", "pretrain.optimizer.learning_rate=0.5"],
            ["pretrain.training.optimizer.learning_rate: 0.02, now 0.5"],
        ),
        (
            ["pretrain.global_batch_tokens=1024", "seed=3"],
            ["pretrain.training.global_batch_tokens: 512, now 1024", "pretrain.seed: 1, now 3"],
        ),
        (["tokenizer.vocab_size=400"], ["tokenizer.vocab_size: 384, now 400"]),
    ],
)
def test_other_values_are_refused_naming_each(half_done: Path, overrides: list[str], fields: list[str]) -> None:
    error = refused(half_done, *overrides)
    for field in fields:
        assert field in error.details
    again = refused(half_done, *overrides)
    assert again.details == error.details


def test_other_data_is_refused_naming_it(half_done: Path) -> None:
    text = half_done.parent / "text.jsonl"
    before = text.read_bytes()
    text.write_bytes(before.replace(b"river", b"delta", 1))
    try:
        assert any(line.startswith("corpus.") for line in refused(half_done).details)
    finally:
        text.write_bytes(before)


def test_another_version_of_the_code_is_refused(half_done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from groundup import stage

    real = stage.versions()
    monkeypatch.setattr(stage, "versions", lambda: {**real, "torch": "9.9"})
    with pytest.raises(ModelFileError, match=r'versions\.torch: .*now "9\.9"'):
        pipeline.run(groundup.load_recipe(half_done), "pretrain")


def test_a_flipped_bit_of_the_data_is_found_before_it_trains(half_done: Path) -> None:
    folders = {entry["name"]: entry["folder"] for entry in pipeline.status(groundup.load_recipe(half_done))}
    shard = Path(folders["shards"], "train/text/tokens-00000.bin")
    before = shard.read_bytes()
    shard.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    try:
        with pytest.raises(DataError, match=r"shards/.*tokens-00000\.bin: content differs"):
            pipeline.run(groundup.load_recipe(half_done), "pretrain")
    finally:
        shard.write_bytes(before)


def test_a_flipped_bit_of_the_tokenizer_is_found_too(half_done: Path) -> None:
    folders = {entry["name"]: entry["folder"] for entry in pipeline.status(groundup.load_recipe(half_done))}
    file = Path(folders["tokenizer"], "tokenizer.json")
    before = file.read_bytes()
    middle = len(before) // 2
    file.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    try:
        with pytest.raises(DataError, match=r"tokenizer/.*tokenizer\.json: content differs"):
            pipeline.run(groundup.load_recipe(half_done), "pretrain")
    finally:
        file.write_bytes(before)


def test_faults_are_refused_without_the_switch(
    half_done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAULT", "crash@1")
    assert cli.main(["pretrain", str(half_done), "runtime.test_faults=false"]) == 2
    assert "set runtime.test_faults=true" in capsys.readouterr().err


def test_the_same_values_go_on_and_prove_that_they_resume(half_done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Last of this file: it ends the half-done phase."""
    found = pipeline.run(groundup.load_recipe(half_done), "pretrain")
    summary = next(entry["summary"] for entry in found.stages if entry["name"] == "pretrain")
    assert summary["steps"] == 20 and summary["skipped_steps"] == 0
    effective = summary["effective_training"]
    assert effective["attempts"] > 1 and 0 < effective["effective_share"] <= 1
    assert effective["restarts"][0]["ended"] == "DivergedError (exit code 7)"
    report = json.loads((found.folder / "report.json").read_text())
    assert report["effective_training"]["pretrain"] == effective
    assert "restarted" in [event["event"] for event in read_lines(found.folder / "events.jsonl")]
    assert json.loads((found.folder / "unfinished.json").read_text()) == {}
    capsys.readouterr()
    assert cli.main(["verify", str(half_done)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[1].startswith("resume  pretrain: stopped and saved after 2 of 4 steps, reloaded, equal to the bit")
    assert cli.main(["verify", str(found.folder), "--json"]) == 0
    out, err = capsys.readouterr()
    told: dict[str, Any] = json.loads(out)
    assert "instruct: resumed at step 2 of 4" in err and "training examples" not in err
    assert [(each["phase"], each["equal"]) for each in told["resume"]] == [("pretrain", True), ("instruct", True)]


def test_a_run_that_does_not_resume_is_named(half_done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "load_flat_state", lambda optimizer, tensors: None)
    with pytest.raises(ModelFileError, match="pretrain: stopped after 2 steps and resumed, it ends with other bits"):
        pipeline.prove_resume(half_done.parent / "work/runs/tiny", groundup.load_recipe(half_done))


def test_weights_that_were_damaged_since_are_not_tuned(half_done: Path) -> None:
    """Behind the test that ends pretraining."""
    recipe = groundup.load_recipe(half_done)
    folders = {entry["name"]: entry["folder"] for entry in pipeline.status(recipe)}
    (file,) = Path(folders["pretrain"]).rglob("model.safetensors")
    before = file.read_bytes()
    file.write_bytes(before[:-3] + bytes([before[-3] ^ 1]) + before[-2:])
    try:
        with pytest.raises(ModelFileError, match=r"model\.safetensors: content differs.*; restore it, or delete"):
            pipeline.run(recipe, "instruct")
    finally:
        file.write_bytes(before)


def test_a_damaged_log_or_a_foreign_file_costs_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(work: Path) -> dict[str, Any]:
        for name in ("logs/metrics.jsonl", "checkpoints/model.safetensors"):
            (work / name).parent.mkdir()
            (work / name).write_text("{}\n")
        return {}

    done = stage.bring(stage.Stage("pretrain", {}), tmp_path, build)
    (done.path / "logs" / "metrics.jsonl").write_text("{]\n")
    with caplog.at_level("WARNING", logger="groundup"):
        changes.require_intact([done])
    assert "logs/metrics.jsonl: content differs" in caplog.text and "going on" in caplog.text
    (done.path / "notes.txt").write_text("mine")
    with pytest.raises(
        DataError, match=r"notes\.txt: not in the manifest; move it elsewhere, nothing of ours is damaged"
    ):
        changes.require_intact([done])
    (done.path / "checkpoints" / "model.safetensors").write_text("[}\n")
    with pytest.raises(ModelFileError, match=r"model\.safetensors: content differs"):
        changes.require_intact([done])
