"""A pipeline of two ranks through the command: what one process gets, also when it is killed and goes on as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import groundup
from groundup import stage
from groundup.errors import RecipeError
from groundup.pipeline import status
from tests.end_to_end import tiny
from tests.end_to_end.test_ranks import (
    ADAMW,
    act_after_steps,
    finish,
    kill_rank,
    lines,
    pretrained,
    state_hash,
    weights,
    write_recipe,
)

IN_STAGES = ("runtime.devices=2", "runtime.parallel.pipeline=2")


@pytest.mark.slow
def test_a_killed_pipeline_goes_on_as_one_process_and_back(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 60, optimizer=ADAMW, average={"decay": 0.5})
    finish(recipe, "whole")
    finish(recipe, "stages", *IN_STAGES)
    finish(recipe, "again", *IN_STAGES)
    assert state_hash(recipe, "stages") == state_hash(recipe, "again"), "the same layout gives the same bits"
    code, errors, _ = act_after_steps(recipe, "work", 15, kill_rank, *IN_STAGES, "runtime.restarts=0")
    assert code == 6 and "rank 1 was killed by SIGKILL" in errors, errors
    code, errors, _ = act_after_steps(recipe, "work", 35, subprocess.Popen.terminate)
    assert code == 75, errors
    finish(recipe, "work", *IN_STAGES)
    whole = lines(recipe, "whole")
    for work in ("stages", "work"):
        found = lines(recipe, work)
        assert [line["sample_ids_hash"] for line in found] == [line["sample_ids_hash"] for line in whole]
        assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in whole], rel=1e-5)
        expected = weights(recipe, "whole")
        for name, weight in weights(recipe, work).items():
            torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4)
        summaries = [stage.read_manifest(pretrained(recipe, each))["summary"] for each in ("whole", work)]
        bits = [summary["validation"]["bits_per_byte"] for summary in summaries]
        assert bits[1] == pytest.approx(bits[0], rel=1e-4)


@pytest.mark.slow
def test_every_stage_of_a_recipe_runs_with_two_stages_on_each_rank(tmp_path: Path) -> None:
    model: dict[str, Any] = {**tiny.recipe(tmp_path)["model"], "num_layers": 4, "tied": True}
    recipe = tiny.write_recipe(tmp_path, model=model)
    work = tmp_path / "work"
    words = [f"runtime.workdir={work}", "-q", *IN_STAGES, "runtime.parallel.schedule=interleaved"]
    done = subprocess.run(
        [sys.executable, "-m", "groundup", "run", str(recipe), *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    entries = status(groundup.load_recipe(recipe, [f"runtime.workdir={work}"]))
    assert {entry["state"] for entry in entries} == {"done"}
    assert all(entry["summary"]["world_size"] == 2 for entry in entries if entry["name"] in ("pretrain", "instruct"))


def test_a_pipeline_that_cannot_be_is_refused_with_the_recipe(tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path)
    for word, said in (
        ("runtime.micro_batch_rows=8", "makes 1 micro-batches a step"),
        ("runtime.parallel.schedule=interleaved", "4 stages, but the model has 2 blocks"),
        ("runtime.parallel.stages_per_rank=2", "schedule 1f1b needs 1"),
    ):
        with pytest.raises(RecipeError, match=said):
            groundup.load_recipe(recipe, [*IN_STAGES, word])
    lora = ["instruct.tune.kind=lora", "instruct.tune.targets=[layers.0.*.query]"]
    with pytest.raises(RecipeError, match="no adapter in blocks 1 to 1, stage 1 of"):
        groundup.load_recipe(recipe, [*IN_STAGES, *lora])
