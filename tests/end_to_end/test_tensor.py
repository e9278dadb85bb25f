"""Ranks that share every layer, through the command itself: what one process gets, and one goes on after them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from groundup import stage
from tests.end_to_end.test_ranks import ADAMW, act_after_steps, finish, lines, pretrained, start, write_recipe

SHARED = ("runtime.devices=2", "runtime.parallel.tensor=2")


@pytest.mark.slow
def test_two_ranks_share_every_layer_and_one_goes_on(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 60, optimizer=ADAMW)
    code, errors, _ = act_after_steps(recipe, "work", 25, subprocess.Popen.terminate, *SHARED)
    assert code == 75, errors
    finish(recipe, "work")
    finish(recipe, "whole")
    one, shared = lines(recipe, "whole"), lines(recipe, "work")
    assert [line["sample_ids_hash"] for line in shared] == [line["sample_ids_hash"] for line in one]
    assert [line["loss"] for line in shared] == pytest.approx([line["loss"] for line in one], rel=1e-5)
    assert [line["grad_norm"] for line in shared] == pytest.approx([line["grad_norm"] for line in one], rel=1e-3)
    bits = [stage.read_manifest(pretrained(recipe, work))["summary"]["validation"] for work in ("whole", "work")]
    assert bits[1]["bits_per_byte"] == pytest.approx(bits[0]["bits_per_byte"], rel=1e-4)


@pytest.mark.slow
def test_the_same_ranks_give_the_same_bits(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 40)
    for work in ("once", "again"):
        finish(recipe, work, *SHARED)
    once, again = (stage.verify(pretrained(recipe, work))[0] for work in ("once", "again"))
    assert once == again


@pytest.mark.slow
def test_one_process_cannot_share_layers(tmp_path: Path) -> None:
    process = start(write_recipe(tmp_path, 10), "work", "runtime.parallel.tensor=2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "tensor 2 does not divide 1 ranks" in errors, errors
