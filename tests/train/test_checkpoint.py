"""Checkpoints: saved and loaded to the bit; damage is found, named and fallen back from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError, ResourceError
from groundup.train import checkpoint
from groundup.train.state import TrainState
from groundup.train.step import train_step
from tests.train import toys


def trained(steps: int) -> TrainState:
    state, mixture = toys.state(), toys.mixture()
    for step in range(steps):
        train_step(state, [mixture.batch(step, 0, 8)], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
    return state


def resume(folder: Path, announced: bool = False) -> tuple[TrainState, dict[str, Any] | None, list[str]]:
    fallbacks: list[str] = []
    state = toys.state()
    found = checkpoint.resume(folder, state, announced, lambda path, fault: fallbacks.append(f"{path.name}: {fault}"))
    return state, found, fallbacks


def test_resumed_state_equals_the_saved_one_to_the_bit(tmp_path: Path) -> None:
    state = trained(3)
    checkpoint.save(tmp_path, state, {"note": "x"}, keep=2)
    again, found, _ = resume(tmp_path)
    assert found is not None and found["note"] == "x"
    assert again.step == 3 and toys.equal_states(state, again)


def test_only_the_newest_are_kept_and_junk_is_ignored(tmp_path: Path) -> None:
    state = trained(1)
    for step in (1, 2, 3):
        state.step = step
        checkpoint.save(tmp_path, state, {}, keep=2)
    for junk in ("step-99999999", "step-abc", "core", "step-00000009.partial-1"):
        (tmp_path / junk).mkdir()
    assert resume(tmp_path)[0].step == 3
    assert not (tmp_path / "step-00000001").exists()
    state.step = 4
    checkpoint.save(tmp_path, state, {}, keep=1)
    assert resume(tmp_path)[0].step == 4


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_and_the_checkpoint_before_is_used(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    state = trained(1)
    checkpoint.save(folder, state, {}, keep=2)
    state.step = 2
    newest = checkpoint.save(folder, state, {}, keep=2)
    victim = data.draw(st.sampled_from([checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE]))
    content = bytearray((newest / victim).read_bytes())
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    content[at // 8] ^= 1 << at % 8
    (newest / victim).write_bytes(content)
    again, _, fallbacks = resume(folder)
    assert again.step == 1
    assert fallbacks and victim in fallbacks[0]


@pytest.mark.parametrize("damage", ["truncate", "delete", "empty manifest"])
def test_damaged_files_are_fallen_back_from(tmp_path: Path, damage: str) -> None:
    state = trained(1)
    checkpoint.save(tmp_path, state, {}, keep=2)
    state.step = 2
    newest = checkpoint.save(tmp_path, state, {}, keep=2)
    victim = newest / ("manifest.json" if damage == "empty manifest" else checkpoint.OPTIMIZER)
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1] if damage == "truncate" else b"")
    assert resume(tmp_path)[0].step == 1


def test_refuses_to_start_again_when_every_checkpoint_is_spoilt(tmp_path: Path) -> None:
    newest = checkpoint.save(tmp_path, trained(1), {}, keep=2)
    (newest / checkpoint.WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelFileError, match="no checkpoint is intact"):
        resume(tmp_path)


def test_refuses_to_start_again_when_an_announced_checkpoint_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no checkpoint is intact"):
        resume(tmp_path, announced=True)
    assert resume(tmp_path, announced=False)[1] is None


def test_weights_that_are_no_numbers_are_refused_even_with_a_right_hash(tmp_path: Path) -> None:
    state = trained(1)
    state.model.norm.weight.data[0] = float("nan")
    checkpoint.save(tmp_path, state, {}, keep=2)
    with pytest.raises(ModelFileError, match=r"norm\.weight holds NaN"):
        resume(tmp_path)


def test_says_what_it_needs_when_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ResourceError, match="MB are free"):
        checkpoint.save(tmp_path, trained(1), {}, keep=2)


def test_what_the_model_carries_must_fit_and_is_named_where_it_does_not(tmp_path: Path) -> None:
    state = toys.state(model=toys.LSTM)
    checkpoint.save(tmp_path, state, {}, keep=2)
    smaller = toys.state(toys.training(global_batch_tokens=4 * toys.CONTEXT_LENGTH), model=toys.LSTM)
    with pytest.raises(ModelFileError, match=r"memory 'hidden' has shape \[8, 2, 32\]"):
        checkpoint.resume(tmp_path, smaller, False, lambda path, fault: None)


def test_why_no_checkpoint_is_intact_is_told_of_each(tmp_path: Path) -> None:
    state = trained(1)
    for step in (1, 2):
        state.step = step
        checkpoint.save(tmp_path, state, {}, keep=2)
    (tmp_path / "step-00000001" / checkpoint.WEIGHTS).unlink()
    manifest = tmp_path / "step-00000002" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ModelFileError) as caught:
        resume(tmp_path)
    newest, before = caught.value.details
    assert newest.startswith("step-00000002") and "format version 2" in newest
    assert before == "step-00000001: model.safetensors: missing"


def test_files_with_names_of_checkpoints_are_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("step-00000001", "step-00000002.partial-9", "step-00000003"):
        (tmp_path / name).write_bytes(b"")
    state = trained(1)
    checkpoint.save(tmp_path, state, {}, keep=2)
    assert resume(tmp_path)[0].step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_what_was_fallen_back_from_is_set_aside_and_goes_at_the_end(tmp_path: Path) -> None:
    """Else the damaged one would count as the newest, and the next good one be pruned in its favour."""
    state = trained(1)
    for step in (1, 9):
        state.step = step
        checkpoint.save(tmp_path, state, {}, keep=2)
    damaged = tmp_path / "step-00000009"
    (damaged / checkpoint.WEIGHTS).write_bytes(b"")
    for _ in range(2):
        checkpoint.set_aside([damaged])
        state.step = 2
        checkpoint.save(tmp_path, state, {}, keep=1)
        assert resume(tmp_path)[0].step == 2
        damaged.mkdir()
    damaged.rmdir()
    checkpoint.remove_damaged(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
