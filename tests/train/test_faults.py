"""Faults on purpose: each kind happens at its step, and the loop survives it or ends as it says."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import DivergedError, Interrupted, RecipeError, ResourceError
from groundup.log import read_lines
from groundup.train import loop
from groundup.train.faults import Fault, Faults, parse_faults
from groundup.train.guards import StopRequest
from groundup.train.settings import ExecutionConfig
from groundup.train.spikes import SpikesConfig
from groundup.train.state import TrainState
from tests.train import toys
from tests.train.test_loop import StopAfter


@pytest.fixture(autouse=True)
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine takes longer than the toys' training."""
    monkeypatch.setattr(loop, "measured_peak_flops", lambda device, dtype: 1e12)


def run(
    folder: Path, faults: str = "", stop: StopRequest | None = None, **changes: Any
) -> tuple[TrainState, dict[str, Any]]:
    config = toys.training(steps=6, **changes)
    state, journal, stop = toys.state(config), toys.journal(folder), stop or StopRequest()
    summary = loop.train(toys.phase(config), state, toys.EAGER, folder, journal, stop, parse_faults(faults))
    return state, summary


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_lines(folder / "logs" / "events.jsonl") if event["event"] == name]


def test_what_is_asked_for_is_read() -> None:
    assert parse_faults("crash@3, slow_io=20,inf_grad@9:rank1") == (
        Fault("crash", 3), Fault("slow_io", 20), Fault("inf_grad", 9, 1),
    )  # fmt: skip
    assert parse_faults("") == ()


@pytest.mark.parametrize("text", ["crash", "crash=3", "slow_io@3", "melt@3", "crash@-1", "crash@3:rankx"])
def test_what_is_no_fault_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(RecipeError, match="no fault; known: crash@N"):
        parse_faults(f"nan_loss@1,{text}")


@pytest.mark.parametrize("kind", ["nan_loss", "nan_grad", "inf_grad"])
def test_a_step_without_numbers_changes_nothing_and_is_counted(tmp_path: Path, kind: str) -> None:
    state, summary = run(tmp_path, f"{kind}@3,{kind}@5", optimizer="sgd")
    assert summary["skipped_steps"] == 2
    assert [event["step"] for event in events(tmp_path, "step_skipped")] == [3, 5]
    assert all(torch.isfinite(p).all() for p in state.model.parameters())
    skipped = [line["step"] for line in read_lines(tmp_path / "logs" / "metrics.jsonl") if line.get("skipped")]
    assert skipped == [3, 5]


def test_a_spoilt_gradient_leaves_the_loss_as_it_is(tmp_path: Path) -> None:
    state, batch = toys.state(), toys.mixture().batch(0, 0, 8)
    with Faults(parse_faults("nan_grad@1")).during_step(state):
        sums, _ = state.model(
            **batch.inputs(), targets=batch.targets, row_weights=torch.ones(8), context=loop_context(state)
        )
        sums.sum().backward()
    gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
    assert torch.isfinite(sums).all() and not any(torch.isfinite(g).all() for g in gradients)


def loop_context(state: TrainState) -> Any:
    from groundup.train.step import row_contexts

    return row_contexts(state, [toys.mixture().batch(0, 0, 8)])[0]


def test_too_many_in_a_row_end_the_run_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="3 steps in a row") as caught:
        run(tmp_path, "nan_loss@2,nan_loss@3,nan_loss@4", max_skipped_steps=2)
    assert caught.value.exit_code == 7


def test_wild_guesses_end_the_run_though_every_number_is_finite(tmp_path: Path) -> None:
    config = toys.training(steps=6, optimizer="sgd", max_skipped_steps=1)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"learning_rate": 1e6})})
    with pytest.raises(DivergedError, match=r"wild guesses; lower optimizer\.learning_rate") as caught:
        loop.train(toys.phase(config), toys.state(config), toys.EAGER, tmp_path, toys.journal(tmp_path), StopRequest())
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("model", [toys.MODEL, toys.LSTM])
def test_without_memory_the_micro_batch_is_halved_to_the_same_bits(tmp_path: Path, model: Any) -> None:
    def run(folder: Path, faults: str, rows: int) -> TrainState:
        config = toys.training(steps=4, optimizer="adamw")
        state, execution = toys.state(config, model), toys.EAGER.model_copy(update={"micro_batch_rows": rows})
        phase, journal = toys.phase(config, "continuous"), toys.journal(folder)
        loop.train(phase, state, execution, folder, journal, StopRequest(), parse_faults(faults))
        return state

    halved, smaller = run(tmp_path / "halved", "oom@1,oom@1", 8), run(tmp_path / "smaller", "", 2)
    assert toys.equal_states(halved, smaller)
    found = [(event["rows_before"], event["rows"]) for event in events(tmp_path / "halved", "micro_batch_halved")]
    assert found == [(8, 4), (4, 2)]
    lines = [line for line in read_lines(tmp_path / "halved/logs/metrics.jsonl") if "loss" in line]
    tokens = {line["tokens_seen"] / line["step"] for line in lines}
    assert tokens == {8 * toys.CONTEXT_LENGTH}


def test_one_row_without_memory_is_the_end_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"one row at a time; set runtime\.recompute=true") as caught:
        run(tmp_path, ",".join(["oom@2"] * 4))
    assert caught.value.exit_code == 6


def test_a_halved_micro_batch_stays_so_after_a_resume(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", "oom@2")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", "oom@2", stop=StopAfter(3))
    resumed, summary = run(tmp_path / "parts")
    assert summary["micro_batch_rows"] == 4 and toys.equal_states(whole, resumed)


def test_a_disk_without_room_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ResourceError, match="a checkpoint needs"):
        run(tmp_path)
    assert read_lines(tmp_path / "logs" / "metrics.jsonl") == []


def test_a_slow_step_and_a_flipped_bit_are_only_that(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain")
    slow, summary = run(tmp_path / "slow", "slow_step=20,slow_io=1")
    assert toys.equal_states(plain, slow) and summary["train_seconds"] >= 0.12
    flipped, _ = run(tmp_path / "flipped", "bitflip_param@6")
    assert not toys.equal_states(plain, flipped)
    assert math.isfinite(summary["effective_training"]["effective_share"])


def test_faults_of_other_ranks_are_theirs() -> None:
    faults = Faults(parse_faults("slow_step=50,nan_loss@1:rank1"), rank=0)
    assert [fault.kind for fault in faults._left] == ["slow_step"]


def test_defaults_have_no_fault() -> None:
    assert not ExecutionConfig().test_faults


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_loss_that_jumps_on_purpose_is_left_out_or_gone_back_from(tmp_path: Path, action: Any) -> None:
    spikes = SpikesConfig(window_steps=4, action=action, batches_before=1, batches_after=0)
    _, summary = run(tmp_path, "spike@6", spikes=spikes)
    assert summary["spikes"] == 1 and summary["skipped_steps"] == int(action == "skip")
    assert len(events(tmp_path, "rollback")) == int(action == "rollback")
