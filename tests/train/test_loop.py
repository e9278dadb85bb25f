"""The loop: interrupted and resumed runs end with the bits of an undisturbed one; nothing is logged twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import DataError, DivergedError, Interrupted
from groundup.log import read_lines
from groundup.models import ModelConfig
from groundup.optim import PlateauConfig
from groundup.train import loop, votes
from groundup.train.average import AverageConfig
from groundup.train.guards import StopRequest
from groundup.train.settings import ExecutionConfig
from groundup.train.state import TrainState
from groundup.train.stopping import EarlyStoppingConfig, ValidationConfig
from groundup.train.watchdog import Watchdog
from tests.train import toys


@pytest.fixture(autouse=True)
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine takes longer than the toys' training."""
    monkeypatch.setattr(loop, "measured_peak_flops", lambda device, dtype: 1e12)


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
        "checkpoint_saved", "preempted", "restarted", "resumed", "checkpoint_saved",
    ]  # fmt: skip


NOISE = {"embedding_dropout": 0.1, "attention_dropout": 0.1, "residual_dropout": 0.2, "stochastic_depth": 0.3}


@pytest.mark.parametrize("model", [toys.MODEL.model_copy(update=NOISE), toys.LSTM.model_copy(update={"dropout": 0.3})])
@pytest.mark.parametrize("optimizer", toys.RULES)
def test_every_optimizer_resumes_to_the_same_bits(tmp_path: Path, optimizer: str, model: ModelConfig) -> None:
    """With all that has a state: moments, carried states, the mean of the weights; and dropout, which has none."""
    config = toys.training(steps=4, optimizer=optimizer, average=AverageConfig(decay=0.9))

    def run(folder: Path, stop: StopRequest) -> TrainState:
        state = toys.state(config, model)
        with torch.compiler.set_stance("force_eager"):  # torchao compiles its step, seconds for each shape
            loop.train(toys.phase(config, "continuous"), state, toys.EAGER, folder, toys.journal(folder), stop)
        return state

    whole = run(tmp_path / "whole", StopRequest())
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", StopAfter(1))
    assert toys.equal_states(whole, run(tmp_path / "parts", StopRequest()))
    assert whole.average is not None and len(whole.average.values) > 3
    assert all(kept.abs().sum() > 0 for kept in whole.memory.values())


class Losses:
    """A validation that gives these losses, one after the other, by the step it is asked at."""

    def __init__(self, losses: list[float], state: TrainState, every_steps: int) -> None:
        self.losses, self.state, self.every_steps = losses, state, every_steps

    def __call__(self, model: object) -> dict[str, float]:
        return {"loss": self.losses[self.state.step // self.every_steps - 1]}


def run_validated(folder: Path, losses: list[float], stop: StopRequest, **changes: object) -> tuple[TrainState, Any]:
    config = toys.training(validation=ValidationConfig(every_steps=2, rows=4), **changes)
    state = toys.state(config)
    phase = toys.phase(config, validate=Losses(losses, state, 2))
    return state, loop.train(phase, state, toys.EAGER, folder, toys.journal(folder), stop)


def test_a_phase_ends_early_with_the_weights_of_its_best_validation(tmp_path: Path) -> None:
    losses, stopping = [3.0, 2.0, 2.5, 2.2, 2.1, 1.0], EarlyStoppingConfig(patience=2)
    state, summary = run_validated(tmp_path / "whole", losses, StopRequest(), early_stopping=stopping)
    assert state.step == summary["steps"] == 10
    assert summary["weights"] == "best/step-00000004/model.safetensors"
    assert summary["best_validation"] == {"step": 4, "loss": 2.0}
    assert (tmp_path / "whole" / summary["weights"]).exists()
    assert "stopped_early" in [e["event"] for e in read_lines(tmp_path / "whole" / "logs" / "events.jsonl")]
    with pytest.raises(Interrupted):
        run_validated(tmp_path / "parts", losses, StopAfter(6), early_stopping=stopping)
    resumed, again = run_validated(tmp_path / "parts", losses, StopRequest(), early_stopping=stopping)
    assert again["weights"] == summary["weights"] and toys.equal_states(state, resumed)
    saved = [loop.checkpoint.read_tensors(tmp_path / name / summary["weights"]) for name in ("whole", "parts")]
    assert all(torch.equal(tensor, saved[1][name]) for name, tensor in saved[0].items())


def test_the_rate_falls_when_validation_stands_still_after_a_resume_too(tmp_path: Path) -> None:
    losses = [3.0, 2.0, 2.5, 2.2, 2.1, 1.0]
    schedule = PlateauConfig(warmup_fraction=0.0, patience=1, factor=0.1)
    run_validated(tmp_path / "whole", losses, StopRequest(), schedule=schedule)
    with pytest.raises(Interrupted):
        run_validated(tmp_path / "parts", losses, StopAfter(8), schedule=schedule)
    run_validated(tmp_path / "parts", losses, StopRequest(), schedule=schedule)
    for name in ("whole", "parts"):
        lines = read_lines(tmp_path / name / "logs" / "metrics.jsonl")
        rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
        assert rates == [pytest.approx(rate) for rate in [0.05] * 8 + [0.005] * 4]


def test_without_held_out_text_nothing_can_depend_on_it(tmp_path: Path) -> None:
    config = toys.training(validation=ValidationConfig(every_steps=2))
    phase = toys.phase(config, validate=lambda model: {})
    with pytest.raises(DataError, match="validation split is empty"):
        loop.train(phase, toys.state(config), toys.EAGER, tmp_path, toys.journal(tmp_path), StopRequest())


@pytest.mark.parametrize("changes", [{"schedule": PlateauConfig()}, {"early_stopping": EarlyStoppingConfig()}])
def test_what_depends_on_validation_must_say_when_it_is(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs validation"):
        toys.training(**changes)


@pytest.mark.parametrize(("optimizer", "average"), [("adamw", AverageConfig(decay=0.9)), ("schedule_free_adamw", None)])
def test_averaged_weights_are_validated_and_are_the_result(
    tmp_path: Path, optimizer: str, average: AverageConfig | None
) -> None:
    config = toys.training(steps=5, optimizer=optimizer, average=average)
    state, seen = toys.state(config), {}

    def validate(model: torch.nn.Module) -> dict[str, float]:
        seen.update({name: p.detach().clone() for name, p in model.named_parameters()})
        return {"loss": 1.0}

    phase = toys.phase(config, validate=validate)
    summary = loop.train(phase, state, toys.EAGER, tmp_path, toys.journal(tmp_path), StopRequest())
    assert summary["weights"] == "checkpoints/step-00000005/average.safetensors"
    saved = loop.checkpoint.read_tensors(tmp_path / summary["weights"])
    for name, parameter in state.model.named_parameters():
        assert torch.equal(saved[name], seen[name]) and not torch.equal(saved[name], parameter)


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


def test_ranks_vote_where_a_time_out_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank may hang before its vote, and the others would wait for it between all sections."""
    real, sections, made = votes.highest, set[str](), list[Watchdog]()

    def watchdog(*given: Any, **named: Any) -> Watchdog:
        made.append(Watchdog(*given, **named))
        return made[-1]

    def highest(state: TrainState, *values: int) -> list[int]:
        sections.add(made[-1]._section)
        return real(state, *values)

    monkeypatch.setattr(loop, "Watchdog", watchdog)
    monkeypatch.setattr(votes, "highest", highest)
    run(tmp_path)
    assert sections == {"start", "step"}


def test_every_section_has_a_time_out_that_a_recipe_can_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, float] = {}

    class Watching(Watchdog):
        def __init__(
            self, folder: Path, phase: str, rank: int, timeouts: Mapping[str, float], *given: Any, **named: Any
        ):
            asked.update(timeouts)
            super().__init__(folder, phase, rank, timeouts, *given, **named)

        @contextmanager
        def section(self, name: str, step: int) -> Iterator[None]:
            assert asked[name] > 0, name
            with super().section(name, step):
                yield

    monkeypatch.setattr(loop, "Watchdog", Watching)
    limits = {"step_timeout_seconds": 50.0, "checkpoint_timeout_seconds": 60.0, "validation_timeout_seconds": 70.0}
    run(tmp_path, execution=toys.EAGER.model_copy(update=limits))
    assert asked == {"step": 50, "agreement": 50, "checkpoint": 60, "rollback": 60, "validation": 70}
