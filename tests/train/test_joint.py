"""Checkpoints that several ranks write together: all or nothing, whoever fails or is killed; damage is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup import stage
from groundup.errors import GroundupError, ModelFileError, ResourceError
from groundup.optim import flat_state
from groundup.sharded import INDEX
from groundup.train import checkpoint
from groundup.train.folders import candidates, partial_of, take_place
from groundup.train.saving import Saver
from groundup.train.state import TrainState
from tests.train.test_crash_points import CALLS, in_child
from tests.train.thread_ranks import Meeting, stage_of_pipeline

RANKS = 2


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    return Meeting(RANKS).open(monkeypatch)


def saved(ranks: Meeting, folder: Path, *steps: int, keep: int = 2) -> Path:
    """A checkpoint after each of these numbers of steps; the last one's folder."""
    for count in steps:
        ranks.all_do(lambda mesh, count=count: checkpoint.save(folder, stage_of_pipeline(mesh, steps=count), {}, keep))
    return folder / checkpoint.folder_name(steps[-1])


def resumed(ranks: Meeting, folder: Path) -> tuple[int, list[str]]:
    """The step that all ranks find, to the bit what was saved, and what they fell back from."""
    fallbacks: list[str] = []

    def resume(mesh: Any) -> TrainState:
        state = stage_of_pipeline(mesh, salt=9)
        checkpoint.resume(folder, state, True, lambda path, fault: fallbacks.append(f"{path.name}: {fault}"))
        expected = stage_of_pipeline(mesh, steps=state.step)
        for name, value in {**expected.kept, **flat_state(expected.optimizer)}.items():
            assert torch.equal({**state.kept, **flat_state(state.optimizer)}[name], value), name
        return state

    steps = {state.step for state in ranks.all_do(resume)}
    assert len(steps) == 1 and len(fallbacks) % RANKS == 0
    return steps.pop(), fallbacks[::RANKS]


def test_each_rank_writes_what_it_has_and_one_rank_what_all_have(ranks: Meeting, tmp_path: Path) -> None:
    path = saved(ranks, tmp_path, 1)
    names = sorted(file.name for file in path.iterdir())
    parts = [f"{kind}-0000{rank}-of-00002.safetensors" for kind in ("model", "optimizer") for rank in range(RANKS)]
    assert names == ["manifest.json", *parts, INDEX, "state.json"]
    index = json.loads((path / INDEX).read_text(encoding="utf-8"))["files"]["model.safetensors"]
    holders = {name: {part[0] for part in entry["parts"]} for name, entry in index.items()}
    assert holders["layers.0.weight"] == {parts[0]} and holders["layers.1.weight"] == {parts[1]}
    assert len(holders["norm.weight"]) == 1, "copies are written once"
    assert resumed(ranks, tmp_path) == (1, [])


def test_nothing_is_announced_before_all_have_written(ranks: Meeting, tmp_path: Path) -> None:
    may_write, seen = threading.Event(), []

    def run(mesh: Any) -> tuple[int, int]:
        slow = (lambda: may_write.wait(20)) if mesh.get_rank() == 1 else (lambda: None)
        saver = Saver(tmp_path, 2, True, seen.append, lambda step, fault: seen.append(fault), slow)
        state = stage_of_pipeline(mesh, steps=2)
        saver.save(state, {}, {})
        with torch.no_grad():
            for parameter in state.kept.values():
                parameter.add_(1.0)
        turns = [0, 0]
        for released in (False, True):
            while True:
                busy = "busy" in ranks.texts_of_all("busy" if saver.busy else "", mesh)
                if not busy:
                    saver.settle()
                    break
                turns[released] += 1
                if not released and turns[0] == 5:
                    assert candidates(tmp_path) == [] and seen == []
                    may_write.set()
                    break
        saver.wait()
        return turns[0], turns[1]

    turns = ranks.all_do(run)
    assert turns[0] == turns[1] and turns[0][0] == 5
    assert [path.name for path in seen] == ["step-00000002"]
    assert resumed(ranks, tmp_path) == (2, [])


def failing(ranks: Meeting, folder: Path, broken: int, fault: Exception) -> list[Any]:
    """Each rank's error, where the files of one cannot be written; and what is said of it."""
    said: list[Any] = []

    def run(mesh: Any) -> Exception | None:
        def write() -> None:
            if mesh.get_rank() == broken:
                raise fault

        saver = Saver(folder, 2, True, said.append, lambda step, why: said.append((mesh.get_rank(), step)), write)
        saver.save(stage_of_pipeline(mesh, steps=2), {}, {})
        try:
            saver.wait()
        except GroundupError as error:
            return error
        return None

    return [*ranks.all_do(run), sorted(said)]


@pytest.mark.parametrize("broken", range(RANKS))
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("odd")])
def test_where_one_rank_fails_all_hear_of_it_and_nobody_announces(
    ranks: Meeting, tmp_path: Path, broken: int, fault: Exception
) -> None:
    saved(ranks, tmp_path, 1)
    *errors, said = failing(ranks, tmp_path, broken, fault)
    assert all(isinstance(error, ResourceError) and error.exit_code == 6 for error in errors)
    assert f"rank {broken}: " in errors[1 - broken].message
    assert said == [(0, 2), (1, 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert resumed(ranks, tmp_path) == (1, [])
    saved(ranks, tmp_path, 3)
    assert resumed(ranks, tmp_path) == (3, [])


def test_a_manifest_that_cannot_be_written_is_heard_by_all(
    ranks: Meeting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(ranks, tmp_path, 1)

    def refused(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "seal", refused)
        *errors, said = failing(ranks, tmp_path, -1, OSError())
    assert all(isinstance(error, ResourceError) and "input/output" in error.message for error in errors)
    assert said == [(0, 2)] and [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_room_is_looked_for_once_for_all_ranks_together(
    ranks: Meeting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, asked = shutil.disk_usage(tmp_path), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=asked.append(path) or 400))
    # Weights and two moments of 12 + 12 + 6 numbers, and six counts of steps, so more than one rank has.
    with pytest.raises(ResourceError, match=r"a checkpoint needs 0 MB .*, 0 MB are free"):
        saved(ranks, tmp_path, 1)
    assert len(asked) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "delete", "cut", "swap"])
def test_damage_of_any_file_is_found_named_and_fallen_back_from(ranks: Meeting, tmp_path: Path, damage: str) -> None:
    newest = saved(ranks, tmp_path / "whole", 1, 2)
    for number, name in enumerate(sorted(path.name for path in newest.iterdir())):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", folder)
        victim = folder / newest.name / name
        content = bytearray(victim.read_bytes())
        at = (len(content) * 8 * (number + 1)) // 13
        content[at // 8] ^= 1 << at % 8
        if damage == "delete":
            victim.unlink()
            if name == stage.MANIFEST:
                continue  # then it is no checkpoint
        elif damage == "swap":
            shutil.copyfile(folder / "step-00000001" / name, victim)
            if name in (INDEX, stage.MANIFEST):
                continue  # the index of the other is the same, its manifest is what all others differ from
        else:
            victim.write_bytes(content if damage == "flip" else content[:-1])
        step, fallbacks = resumed(ranks, folder)
        assert step == 1 and len(fallbacks) == 1
        assert fallbacks[0].startswith("step-00000002: ") and (name in fallbacks[0] or name == stage.MANIFEST)


def test_an_index_with_wrong_offsets_is_refused_though_its_hash_is_right(ranks: Meeting, tmp_path: Path) -> None:
    newest = saved(ranks, tmp_path, 1, 2)
    index = json.loads((newest / INDEX).read_text(encoding="utf-8"))
    index["files"]["model.safetensors"]["norm.weight"]["parts"][0][1] = [1]
    (newest / INDEX).write_text(json.dumps(index), encoding="utf-8")
    (newest / stage.MANIFEST).unlink()
    stage.seal(newest, {"stage": "checkpoint"})
    step, fallbacks = resumed(ranks, tmp_path)
    assert step == 1 and "parts.json: norm.weight: a part at [1]" in fallbacks[0]


def test_a_machine_that_does_not_see_the_folder_is_named(ranks: Meeting, tmp_path: Path) -> None:
    saved(ranks, tmp_path / "shared", 1)

    def resume(mesh: Any) -> None:
        folder = tmp_path / ("shared" if mesh.get_rank() == 0 else "its own")
        checkpoint.resume(folder, stage_of_pipeline(mesh), True, lambda path, fault: None)

    with pytest.raises(ModelFileError, match=r"rank 1 does not see it.*one folder that all machines share"):
        ranks.all_do(resume)


def test_what_made_way_is_put_back_when_its_heir_never_came(tmp_path: Path) -> None:
    sealed, partial = tmp_path / "step-00000002", partial_of(tmp_path / "step-00000002")
    for folder, text in ((sealed, "old"), (partial, "new")):
        folder.mkdir()
        (folder / "text").write_text(text, encoding="utf-8")
        stage.seal(folder, {"stage": "checkpoint"})
    replaced = os.replace
    try:
        os.replace = lambda source, target: None if source == partial else replaced(source, target)  # type: ignore[assignment]
        take_place(partial, sealed)
    finally:
        os.replace = replaced
    assert [path.name for path in tmp_path.iterdir()] == [sealed.name]
    assert (sealed / "text").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("whole", [False, True])
def test_killed_at_any_call_of_a_save_or_a_consolidation_a_whole_one_is_there(
    ranks: Meeting, tmp_path: Path, whole: bool
) -> None:
    saved(ranks, tmp_path / "before", 1, keep=1)
    found: list[int] = []
    for point in range(1, 400):
        folder = tmp_path / "at"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "before", folder)
        if in_child(lambda point=point, folder=folder: act_until(folder, point, whole)) == 0:
            break
        if whole:
            checkpoint.remove_leftovers(folder)  # as the first rank does before any rank looks
        step, fallbacks = resumed(ranks, folder)
        assert fallbacks == []
        found.append(step)
        if point % 5 == 0:  # the same again, with nothing cleaned
            act(ranks, folder, whole)
            assert [path.name for path in folder.iterdir()] == [f"step-0000000{1 if whole else 2}"]
    act(ranks, folder, whole)
    # Two ranks write at once, so the same point may lie before the seal in one attempt and behind it in another.
    assert len(found) > 20 and found[0] == 1 and set(found) == ({1} if whole else {1, 2})
    assert [path.name for path in folder.iterdir()] == [f"step-0000000{1 if whole else 2}"]
    assert resumed(ranks, folder)[0] == (1 if whole else 2)


def act(ranks: Meeting, folder: Path, whole: bool) -> None:
    if whole:
        checkpoint.consolidate(folder)
    else:
        saved(ranks, folder, 2, keep=1)


def act_until(folder: Path, point: int, whole: bool) -> None:
    left, lock = [point], threading.Lock()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        ranks = Meeting(RANKS).open(patch)
        for name in CALLS:
            patch.setattr(os, name, dying(getattr(os, name)))
        act(ranks, folder, whole)
