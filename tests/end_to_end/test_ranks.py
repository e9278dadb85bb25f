"""Several ranks through the command itself: what one process gets, whatever kills or stops them on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import groundup
from groundup import stage
from groundup.log import read_lines
from groundup.pipeline import status
from tests.end_to_end import tiny

ADAMW = {"kind": "adamw", "learning_rate": 0.01}
STOP_SECONDS = 30.0


def write_recipe(folder: Path, steps: int, **pretrain: Any) -> Path:
    """A recipe of pretraining only, prepared in `folder/prepared`."""
    phase = {"tokens": steps * 512, "global_batch_tokens": 512, "precision": "fp32", **pretrain}
    path = tiny.write_recipe(folder, pretrain=phase, instruct=None)
    groundup.prepare(groundup.load_recipe(path, [f"runtime.workdir={folder / 'prepared'}"]))
    return path


def command(recipe: Path, work: str, *words: str) -> list[str]:
    """The command in a copy of the prepared folder, or in what earlier attempts made of it."""
    folder = recipe.parent / work
    if not folder.exists():
        shutil.copytree(recipe.parent / "prepared", folder, symlinks=True)
    return [sys.executable, "-m", "groundup", "pretrain", str(recipe), f"runtime.workdir={folder}", "-q", *words]


def start(recipe: Path, work: str, *words: str) -> subprocess.Popen[str]:
    given = command(recipe, work, *words)
    return subprocess.Popen(given, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(recipe: Path, work: str, *words: str) -> None:
    process = start(recipe, work, *words)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def lines(recipe: Path, work: str) -> list[dict[str, Any]]:
    return [line for line in read_lines(recipe.parent / work / "runs/tiny/metrics.jsonl") if "loss" in line]


def pretrained(recipe: Path, work: str) -> Path:
    entries = status(groundup.load_recipe(recipe, [f"runtime.workdir={recipe.parent / work}"]))
    return next(Path(entry["folder"]) for entry in entries if entry["name"] == "pretrain")


def state_hash(recipe: Path, work: str) -> str:
    return stage.verify(pretrained(recipe, work))[0]


def weights(recipe: Path, work: str) -> dict[str, torch.Tensor]:
    folder = pretrained(recipe, work)
    found: dict[str, torch.Tensor] = load_file(folder / stage.read_manifest(folder)["summary"]["weights"])
    return found


def ranks_of(parent: int) -> dict[int, int]:
    """Rank -> process id of the ranks that a command has started."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"\nPPid:\t{parent}\n" in (folder / "status").read_text():
                variables = dict(entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if entry)
                found[int(variables["RANK"])] = int(folder.name)
        except (OSError, KeyError):
            continue
    return found


def act_after_steps(
    recipe: Path, work: str, steps: int, act: Callable[[subprocess.Popen[str]], None], *words: str
) -> tuple[int, str, list[int]]:
    """Start, act when so many steps are done; returns exit code, stderr and the ranks' process ids."""
    process = start(recipe, work, *words)
    while len(lines(recipe, work)) < steps and process.poll() is None:
        time.sleep(0.02)
    ranks = list(ranks_of(process.pid).values())
    act(process)
    _, errors = process.communicate(timeout=STOP_SECONDS)
    return process.returncode, errors, ranks


def alive(processes: list[int]) -> list[int]:
    """Those that still run; a process that ended but was not asked about by its parent does not count."""
    found = []
    for each in processes:
        try:
            state = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [each] if state != "Z" else []
    return found


def kill_rank(process: subprocess.Popen[str]) -> None:
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)


def test_two_ranks_do_what_one_process_does(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 20, optimizer=ADAMW, average={"decay": 0.5})
    finish(recipe, "two", "runtime.devices=2")
    groundup.pretrain(groundup.load_recipe(recipe, [f"runtime.workdir={tmp_path / 'prepared'}"]))
    one, two = lines(recipe, "prepared"), lines(recipe, "two")
    assert [line["sample_ids_hash"] for line in two] == [line["sample_ids_hash"] for line in one]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)
    assert [line["step"] for line in two] == list(range(1, 21)), "only one rank writes"
    expected = weights(recipe, "prepared")
    for name, found in weights(recipe, "two").items():
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-4)
    summary = stage.read_manifest(pretrained(recipe, "two"))["summary"]
    assert summary["world_size"] == 2
    bits = [stage.read_manifest(pretrained(recipe, work))["summary"]["validation"] for work in ("prepared", "two")]
    assert bits[1]["bits_per_byte"] == pytest.approx(bits[0]["bits_per_byte"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [0, 1])
def test_the_same_ranks_give_the_same_bits_even_when_one_is_killed(tmp_path: Path, shard: int) -> None:
    recipe, words = write_recipe(tmp_path, 150), ("runtime.devices=2", f"runtime.parallel.shard={shard}")
    finish(recipe, "whole", *words)
    finish(recipe, "again", *words)
    assert state_hash(recipe, "again") == state_hash(recipe, "whole")
    code, errors, ranks = act_after_steps(recipe, "killed", 40, kill_rank, *words, "runtime.restarts=0")
    assert code == 6 and "rank 1 was killed by SIGKILL" in errors and len(errors.splitlines()) == 1, errors
    assert len(ranks) == 2 and not alive(ranks)
    finish(recipe, "killed", *words)
    assert state_hash(recipe, "killed") == state_hash(recipe, "whole")


@pytest.mark.slow
def test_a_killed_command_takes_its_ranks_with_it(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 150)
    code, _, ranks = act_after_steps(recipe, "work", 20, subprocess.Popen.kill, "runtime.devices=2")
    time.sleep(1)
    assert code == -signal.SIGKILL and len(ranks) == 2 and not alive(ranks)
    finish(recipe, "work", "runtime.devices=2")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_ranks_save_when_the_command_is_asked_to_stop(tmp_path: Path, number: signal.Signals, expected: int) -> None:
    recipe = write_recipe(tmp_path, 150)
    code, errors, ranks = act_after_steps(
        recipe, "work", 20, lambda process: process.send_signal(number), "runtime.devices=2"
    )
    assert code == expected and "pretrain saved at step" in errors and len(errors.splitlines()) == 1, errors
    assert len(ranks) == 2 and not alive(ranks)
    finish(recipe, "work", "runtime.devices=2")
    assert [line["step"] for line in lines(recipe, "work")] == list(range(1, 151))


@pytest.mark.slow
def test_ranks_save_when_the_command_is_asked_twice(tmp_path: Path) -> None:
    def ask_twice(process: subprocess.Popen[str]) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
            process.send_signal(number)
            time.sleep(0.05)

    recipe = write_recipe(tmp_path, 150)
    code, errors, ranks = act_after_steps(recipe, "work", 20, ask_twice, "runtime.devices=2")
    assert code == 75 and "pretrain saved at step" in errors and len(errors.splitlines()) == 1, errors
    assert len(ranks) == 2 and not alive(ranks)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "tolerance"), [(ADAMW, 1e-5), ({"kind": "muon"}, 1e-3)])
def test_one_two_one_ranks_go_on_with_the_same_samples_and_losses(
    tmp_path: Path, rule: dict[str, Any], tolerance: float
) -> None:
    recipe = write_recipe(tmp_path, 60, optimizer=rule)
    finish(recipe, "whole")
    for steps, ranks in ((15, 1), (35, 2)):
        code, errors, _ = act_after_steps(recipe, "work", steps, subprocess.Popen.terminate, f"runtime.devices={ranks}")
        assert code == 75, errors
    finish(recipe, "work")
    whole, parts = lines(recipe, "whole"), lines(recipe, "work")
    assert [line["sample_ids_hash"] for line in parts] == [line["sample_ids_hash"] for line in whole]
    assert [line["loss"] for line in parts] == pytest.approx([line["loss"] for line in whole], rel=tolerance)


@pytest.mark.slow
def test_with_exact_ranks_do_not_change_a_bit(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 40, precision="bf16")
    exact = ("runtime.exact=true", "runtime.parallel.shard=1", "runtime.check_ranks_every_steps=10")
    finish(recipe, "one", *exact)
    finish(recipe, "two", *exact, "runtime.devices=2")
    code, errors, _ = act_after_steps(recipe, "changed", 15, subprocess.Popen.terminate, *exact, "runtime.devices=4")
    assert code == 75, errors
    finish(recipe, "changed", *exact)
    told = lines(recipe, "one")
    assert [line["step"] for line in told if "state_digest" in line] == [10, 20, 30, 40]
    for work in ("two", "changed"):
        expected = weights(recipe, "one")
        assert all(torch.equal(value, expected[name]) for name, value in weights(recipe, work).items()), work
        for found, line in zip(lines(recipe, work), told, strict=True):
            same = [(each["loss"], each["grad_norm"], each.get("state_digest")) for each in (found, line)]
            assert same[0] == same[1], (work, line["step"])


@pytest.mark.slow
def test_the_command_runs_unchanged_under_torchrun_in_all_its_stages(tmp_path: Path) -> None:
    recipe = tiny.write_recipe(tmp_path)
    given = ["-m", "groundup", "run", str(recipe), f"runtime.workdir={tmp_path / 'work'}", "-q"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, *given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1, "one rank says what came out"
    entries = status(groundup.load_recipe(recipe, [f"runtime.workdir={tmp_path / 'work'}"]))
    assert {entry["state"] for entry in entries} == {"done"}
    assert all(entry["summary"]["world_size"] == 2 for entry in entries if entry["name"] in ("pretrain", "instruct"))


@pytest.mark.slow
def test_an_error_of_the_ranks_is_said_once_with_its_code(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 150)
    act_after_steps(recipe, "work", 20, subprocess.Popen.terminate, "runtime.devices=2")
    parts = list((tmp_path / "work/stages/pretrain").rglob("model-*.safetensors"))
    assert parts, "each rank wrote its own"
    for path in parts:
        path.write_bytes(path.read_bytes()[:-1])
    process = start(recipe, "work", "runtime.devices=2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4 and errors.count("no checkpoint is intact") == 1, errors


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gather", "ring"])
def test_ranks_share_rows_through_the_command_and_one_goes_on(tmp_path: Path, way: str) -> None:
    recipe = write_recipe(tmp_path, 60, optimizer=ADAMW)
    words = ("runtime.devices=2", "runtime.parallel.context=2", f"runtime.parallel.context_attention={way}")
    finish(recipe, "whole")
    code, errors, _ = act_after_steps(recipe, "work", 15, subprocess.Popen.terminate, *words)
    assert code == 75, errors
    finish(recipe, "work")
    whole, parts = lines(recipe, "whole"), lines(recipe, "work")
    assert [line["sample_ids_hash"] for line in parts] == [line["sample_ids_hash"] for line in whole]
    assert [line["loss"] for line in parts] == pytest.approx([line["loss"] for line in whole], rel=1e-5)
    measured = []
    for work in ("whole", "work"):
        found = read_lines(recipe.parent / work / "runs/tiny/metrics.jsonl")
        measured.append([line["validation"]["bits_per_byte"] for line in found if "validation" in line])
    assert len(measured[0]) == 6 and measured[1] == pytest.approx(measured[0], rel=1e-5)
