"""Checkpoints written while training goes on: the state of the moment, one at a time, faults said and raised."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import ResourceError
from groundup.train import checkpoint
from groundup.train.saving import Saver
from groundup.train.state import TrainState
from tests.train import toys
from tests.train.test_checkpoint import resume, trained


def saver(folder: Path, seen: list[Any], before_write: Any = lambda: None, asynchronous: bool = True) -> Saver:
    return Saver(folder, 2, asynchronous, seen.append, lambda step, fault: seen.append((step, fault)), before_write)


def changed(state: TrainState) -> None:
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1.0)


def test_what_is_written_is_the_state_at_the_call(tmp_path: Path) -> None:
    state, seen, may_write = trained(2), [], threading.Event()
    expected = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    background = saver(tmp_path, seen, lambda: may_write.wait(20))
    background.save(state, {}, {})
    changed(state)
    assert seen == [] and checkpoint.newer_than(tmp_path, 0) == []
    may_write.set()
    background.wait()
    assert [path.name for path in seen] == ["step-00000002"]
    found = resume(tmp_path)[0]
    assert all(torch.equal(parameter, expected[name]) for name, parameter in found.model.named_parameters())


def test_asynchronous_and_not_write_the_same_bytes(tmp_path: Path) -> None:
    for name, asynchronous in (("one", True), ("two", False)):
        background = saver(tmp_path / name, [], asynchronous=asynchronous)
        background.save(trained(2), {"note": 1}, {"seed": 1})
        background.wait()
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_next_save_waits_for_the_one_before(tmp_path: Path) -> None:
    order: list[str] = []
    background = saver(tmp_path, order, lambda: order.append("file"))
    state = trained(1)
    background.save(state, {}, {})
    state.step = 2
    background.save(state, {}, {})
    background.wait()
    assert [str(getattr(entry, "name", entry)) for entry in order] == [
        "file", "file", "step-00000001", "file", "file", "step-00000002",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("odd")])
def test_a_save_that_fails_is_told_at_once_and_raised_at_the_next(tmp_path: Path, fault: Exception) -> None:
    checkpoint.save(tmp_path, trained(1), {}, keep=2)
    seen: list[Any] = []

    def fail() -> None:
        raise fault

    background = saver(tmp_path, seen, fail)
    state = trained(2)
    background.save(state, {}, {})
    with pytest.raises(ResourceError):
        background.save(state, {}, {})
    assert seen[0][0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert resume(tmp_path)[0].step == 1


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ResourceError, match=r"a checkpoint needs 0 MB .*, 0 MB are free"):
        saver(tmp_path, []).save(trained(1), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failing_run_keeps_the_checkpoint_that_is_being_written(tmp_path: Path) -> None:
    background = saver(tmp_path, [])
    with pytest.raises(ZeroDivisionError), background.closed():
        background.save(trained(1), {}, {})
        raise ZeroDivisionError
    assert resume(tmp_path)[0].step == 1


def test_what_killed_writers_left_goes_away(tmp_path: Path) -> None:
    (tmp_path / "step-00000007.partial-99").mkdir()
    (tmp_path / "step-00000007.partial-99" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "step-00000005.partial-99-old").mkdir()
    checkpoint.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
    checkpoint.save(tmp_path, trained(1), {}, keep=2)
    checkpoint.save(tmp_path, trained(1), {}, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_state_of_other_values_is_refused_naming_each(tmp_path: Path) -> None:
    background = saver(tmp_path, [])
    identity = {"pretrain": {"training": {"lr": 0.1, "seed": 1}}, "versions": {"torch": "2.13"}}
    background.save(trained(1), {}, identity)
    background.wait()
    state = toys.state()
    assert checkpoint.resume(tmp_path, state, True, lambda path, fault: None, identity) is not None
    now = {"pretrain": {"training": {"lr": 0.2, "seed": 1}}, "versions": {"torch": "2.14"}}
    with pytest.raises(checkpoint.ModelFileError, match=r"2 differ: pretrain\.training\.lr: 0\.1, now 0\.2") as caught:
        checkpoint.resume(tmp_path, state, True, lambda path, fault: None, now)
    assert caught.value.details == ["pretrain.training.lr: 0.1, now 0.2", 'versions.torch: "2.13", now "2.14"']


@pytest.mark.parametrize(("failures", "steps"), [(1, 2), (2, 1)])
def test_after_an_error_of_the_disk_a_checkpoint_is_written_anew_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, steps: int
) -> None:
    checkpoint.save(tmp_path, trained(1), {}, keep=2)
    real, left, seen = os.fsync, [failures], list[Any]()

    def failing(descriptor: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    background = saver(tmp_path, seen)
    background.save(trained(2), {}, {})
    if failures == 1:
        background.wait()
    else:
        with pytest.raises(ResourceError, match="input/output error"):
            background.wait()
    assert resume(tmp_path)[0].step == steps and not list(tmp_path.glob("*.partial-*"))
    told = [entry[1] for entry in seen if isinstance(entry, tuple)]
    assert len(told) == failures and told[0].endswith("Input/output error; written anew")
