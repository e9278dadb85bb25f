"""Losses that jump: skipped, or rolled back over their batches; counted, bounded, the same after a resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import DivergedError, Interrupted
from groundup.log import read_lines
from groundup.train import loop
from groundup.train.guards import StopRequest
from groundup.train.spikes import SpikeGuard, SpikesConfig
from groundup.train.state import TrainState
from groundup.train.stopping import EarlyStoppingConfig, ValidationConfig
from tests.train import toys
from tests.train.test_loop import StopAfter

POISONED = (9, 10)
SPIKES = SpikesConfig(window_steps=4, threshold=4.0, action="rollback", batches_before=2, batches_after=1, max_spikes=2)


@pytest.fixture(autouse=True)
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine takes longer than the toys' training."""
    monkeypatch.setattr(loop, "measured_peak_flops", lambda device, dtype: 1e12)


class Poisoned:
    """A mixture some of whose batches have targets that cannot be learnt, and which remembers what it gave."""

    def __init__(self, mixture: Any, poisoned: tuple[int, ...]) -> None:
        self._mixture, self._poisoned, self.given = mixture, poisoned, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mixture, name)

    def batch(self, step: int, first_row: int, num_rows: int) -> Any:
        self.given.append(step)
        batch = self._mixture.batch(step, first_row, num_rows)
        if step not in self._poisoned:
            return batch
        wrong = torch.where(batch.targets >= 0, (batch.targets + 31) % toys.VOCAB_SIZE, batch.targets)
        return replace(batch, targets=wrong)


def run(folder: Path, spikes: SpikesConfig, stop: StopRequest | None = None) -> tuple[TrainState, Any, list[int]]:
    config = toys.training(steps=16, optimizer="adamw", spikes=spikes)
    state, phase = toys.state(config), toys.phase(config)
    mixture = Poisoned(phase.mixture, POISONED)
    phase = replace(phase, mixture=mixture)  # type: ignore[arg-type]
    summary = loop.train(phase, state, toys.EAGER, folder, toys.journal(folder), stop or StopRequest())
    return state, summary, mixture.given


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_lines(folder / "logs" / "events.jsonl") if event["event"] == name]


def test_a_rollback_leaves_out_the_batches_around_the_jump(tmp_path: Path) -> None:
    _, summary, given = run(tmp_path, SPIKES)
    assert summary["spikes"] == 1 and summary["left_out"] == [(7, 4)]
    assert given == [*range(10), *range(7), *range(11, 20)]
    (event,) = events(tmp_path, "rollback")
    assert event["step"] == 10 and event["to_step"] == 0 and event["batches_left_out"] == [7, 10]
    lines = [line for line in read_lines(tmp_path / "logs" / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 17))
    assert lines[7]["sample_ids_hash"] == toys.mixture().sample_ids_hash(11)


@pytest.mark.parametrize("action", ["rollback", "skip"])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, action: str) -> None:
    spikes = SPIKES.model_copy(update={"action": action})
    whole, summary, _ = run(tmp_path / "whole", spikes)
    for checks in (5, 5):
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", spikes, StopAfter(checks))
    parts, again, _ = run(tmp_path / "parts", spikes)
    assert toys.equal_states(whole, parts)
    assert (again["spikes"], again["skipped_steps"]) == (summary["spikes"], summary["skipped_steps"])


def test_a_skipped_jump_is_counted_and_those_after_it_are_measured_by_the_same(tmp_path: Path) -> None:
    _, summary, given = run(tmp_path, SPIKES.model_copy(update={"action": "skip"}))
    assert given == list(range(16))
    assert [event["step"] for event in events(tmp_path, "step_skipped")] == [10, 11]
    assert summary["skipped_steps"] == summary["spikes"] == 2


def test_too_many_jumps_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"jump number 2 .*max_spikes is 1"):
        run(tmp_path, SPIKES.model_copy(update={"action": "skip", "max_spikes": 1}))


def test_no_limit_before_there_are_losses_enough_or_without_a_rule() -> None:
    guard, none = SpikeGuard(SPIKES), SpikeGuard(None)
    for loss in (4.0, 3.0, 2.0):
        guard.accept(loss)
        none.accept(loss)
    assert guard.limit == none.limit == float("inf")
    guard.accept(1.0)
    assert 2.5 < guard.limit < 8.0
    assert none.account() == {}


def test_batches_left_out_twice_are_counted_once() -> None:
    guard = SpikeGuard(SPIKES)
    assert guard.leave_out(10, 12) == (10, 13)
    assert [guard.batch(step) for step in (9, 10, 11)] == [9, 14, 15]
    assert guard.leave_out(9, 11) == (9, 16)
    assert [guard.batch(step) for step in (8, 9, 10, 12)] == [8, 17, 18, 20]
    again = SpikeGuard(SPIKES)
    again.take_back(guard.account()["spikes"])
    assert [again.batch(step) for step in range(20)] == [guard.batch(step) for step in range(20)]


def test_a_rollback_does_not_go_with_early_stopping() -> None:
    with pytest.raises(ValueError, match="use action: skip"):
        toys.training(spikes=SPIKES, validation=ValidationConfig(), early_stopping=EarlyStoppingConfig())
