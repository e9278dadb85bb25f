"""The loop: interrupted and resumed runs end with the bits of an undisturbed one; nothing is logged twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from groundup.errors import DivergedError, Interrupted
from groundup.log import read_lines
from groundup.train import loop
from groundup.train.guards import StopRequest
from groundup.train.state import ExecutionConfig, TrainState
from tests.train import toys


def run(folder: Path, stop: StopRequest | None = None, execution: ExecutionConfig = toys.EAGER) -> TrainState:
    config, state = toys.training(), toys.state()
    loop.train(toys.phase(config), state, execution, folder, toys.journal(folder), stop or StopRequest())
    return state


class StopAfter(StopRequest):
    """Asks to stop once `checks` questions were asked."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.checks = checks

    @property
    def requested(self) -> bool:
        self.checks -= 1
        if self.checks < 0:
            self.signal = signal.SIGTERM
        return self.signal is not None


@pytest.mark.parametrize("stopped_after", [0, 3, 10])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path, stopped_after: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path / "parts", StopAfter(stopped_after))
    assert stopped.value.exit_code == 75
    resumed = run(tmp_path / "parts")
    assert toys.equal_states(whole, resumed)
    lines = read_lines(tmp_path / "parts_run" / "metrics.jsonl")
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, 13))
    assert [event["event"] for event in read_lines(tmp_path / "parts_run" / "events.jsonl")] == [
        "checkpoint_saved", "preempted", "resumed", "checkpoint_saved",
    ]  # fmt: skip


def test_lines_of_a_killed_attempt_are_taken_back(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "killed", StopAfter(4))
    # As after kill -9: lines of steps beyond the last checkpoint were written, the last one only in part.
    metrics = tmp_path / "killed" / "logs" / "metrics.jsonl"
    with metrics.open("a") as handle:
        handle.write('{"phase": "pretrain", "step": 6, "loss": 9.9}\n{"phase": "pret')
    assert toys.equal_states(whole, run(tmp_path / "killed"))
    losses = {line["step"]: line["loss"] for line in read_lines(metrics) if "loss" in line}
    expected = {
        line["step"]: line["loss"] for line in read_lines(tmp_path / "whole/logs/metrics.jsonl") if "loss" in line
    }
    assert losses == expected


def test_each_line_has_the_fields_that_others_rely_on(tmp_path: Path) -> None:
    run(tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "logs" / "metrics.jsonl")
    step = next(line for line in lines if "loss" in line)
    names = (
        "phase step total_steps tokens_seen loss loss_text loss_chat grad_norm learning_rate tokens_per_second mfu"
        " peak_memory_bytes sample_ids_hash skipped seconds"
    )
    assert set(names.split()) <= step.keys()
    assert [line["step"] for line in lines if "validation" in line] == [5, 10, 12]


def test_one_checkpoint_stays_and_holds_the_result(tmp_path: Path) -> None:
    execution = toys.EAGER.model_copy(update={"checkpoint_every_seconds": 1e-6})
    state = run(tmp_path / "run", execution=execution)
    kept = list((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-00000012"]
    saved = loop.checkpoint.read_tensors(kept[0] / "model.safetensors")
    assert all(torch.equal(saved[name], p) for name, p in state.model.named_parameters())


def test_a_run_that_diverges_stops_with_advice(tmp_path: Path) -> None:
    config, state = toys.training(max_skipped_steps=1), toys.state()
    with torch.no_grad():
        state.model.norm.weight.fill_(float("inf"))
    with pytest.raises(DivergedError, match="learning_rate"):
        loop.train(toys.phase(config), state, toys.EAGER, tmp_path, toys.journal(tmp_path), StopRequest())
    assert "step_skipped" in [event["event"] for event in read_lines(tmp_path / "logs" / "events.jsonl")]


def test_this_process_can_be_asked_by_a_real_signal(tmp_path: Path) -> None:
    config, state = toys.training(), toys.state()
    phase = toys.phase(config)

    class Asking(type(phase.mixture)):  # type: ignore[misc]
        def batch(self, step: int, first_row: int, num_rows: int):  # type: ignore[no-untyped-def]
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step, first_row, num_rows)

    phase.mixture.__class__ = Asking
    with StopRequest().installed() as stop, pytest.raises(Interrupted, match="saved at step 3 of 12"):
        loop.train(phase, state, toys.EAGER, tmp_path, toys.journal(tmp_path), stop)
