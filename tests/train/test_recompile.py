"""With `compile: on` everything is compiled in the first step of a phase, and nothing in mid-run.

What decides over a compilation are the shapes, flags and guards that dynamo sees, whatever makes code of its graphs; so
the graphs are run as they are here (aot_eager), and the test takes seconds and needs no C++ compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from groundup.log import read_lines
from groundup.models import Decoder
from groundup.optim import WSDConfig
from groundup.parallel.compile import uncompiled
from groundup.tokens import Batch, Mixture, MixtureSource, ordered_batches
from groundup.train import loop
from groundup.train.guards import StopRequest
from groundup.train.phase import Phase
from groundup.train.settings import ExecutionConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives
from tests.train import toys

STEPS = 7
COMPILED = ExecutionConfig(device="cpu", threads=1, compile="on", checkpoint_every_seconds=1e-6, validate_every_steps=2)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def quick_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **given: real(module, **given, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def compilations() -> int:
    """Graphs that were made so far, forward and backward."""
    return counters["stats"]["unique_graphs"] + counters["aot_autograd"]["total"]


class Watched(Mixture):
    """Notes before every step how much was compiled until then."""

    def watch(self) -> Mixture:
        self.before_steps: dict[int, int] = {}
        return self

    def batch(self, step: int, first_row: int, num_rows: int) -> Batch:
        self.before_steps.setdefault(step, compilations())
        return super().batch(step, first_row, num_rows)


def pretrain_phase(config: Any) -> tuple[Mixture, Objectives]:
    return Watched([MixtureSource(toys.ToyRows("text"), 1.0)], 8, 1), Objectives(("text",), (0,), ("pretrain",), (1.0,))


def instruct_phase(config: Any) -> tuple[Mixture, Objectives]:
    sources = [MixtureSource(toys.ToyRows("text"), 0.25), MixtureSource(toys.ToyRows("chat", masked=0.6), 0.75)]
    return Watched(sources, 8, 1), toys.objectives()


def validate(model: Decoder) -> dict[str, float]:
    """As the pipeline does: eagerly, in batches of another size, the last one smaller still."""
    with uncompiled(), torch.inference_mode():
        for batch in ordered_batches(toys.ToyRows("held-out", num_rows=7), 3):
            model(batch.tokens, segments=batch.segments, positions=batch.positions)
    return {"bits_per_byte": 1.0}


def run(folder: Path, name: str, micro_batch_rows: int, precision: str, start: Any = None) -> tuple[list[int], Any]:
    """Train a phase; returns what was compiled before each step and after the last, and the weights."""
    config = toys.training(STEPS, precision=precision, schedule=WSDConfig(warmup_steps=2))
    execution = COMPILED.model_copy(update={"micro_batch_rows": micro_batch_rows})
    mixture, objectives = {"pretrain": pretrain_phase, "instruct": instruct_phase}[name](config)
    state = build_state(toys.MODEL, toys.VOCAB_SIZE, config, execution, seed=3, device=torch.device("cpu"), start=start)
    phase = Phase(name, config, mixture.watch(), objectives, validate, 1000.0)
    loop.train(phase, state, execution, folder / name, toys.journal(folder / name), StopRequest())
    lines = read_lines(folder / name / "logs" / "metrics.jsonl")
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6, 7]
    return [*mixture.before_steps.values(), compilations()], dict(state.model.named_parameters())


@pytest.mark.parametrize(("micro_batch_rows", "precision"), [(0, "bf16"), (2, "fp32")])
def test_nothing_is_compiled_in_mid_run(tmp_path: Path, micro_batch_rows: int, precision: str) -> None:
    found, weights = run(tmp_path, "pretrain", micro_batch_rows, precision)
    assert len(found) == STEPS + 1
    assert found[0] == 0
    assert found[1] > 0, "the first step compiles"
    assert found[1:] == [found[1]] * STEPS
    again, _ = run(tmp_path, "instruct", micro_batch_rows, precision, start=weights)
    assert again == [found[1]] * (STEPS + 1), "the second phase runs on the graphs of the first"
