"""Layouts that cannot be are refused by name before anything is built."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from groundup.errors import RecipeError
from groundup.models import LoRAConfig
from groundup.optim import LayersConfig
from groundup.parallel import ParallelConfig
from groundup.parallel.pipeline import spread
from groundup.train.layout import check_phase, rows_per_micro_batch
from groundup.train.settings import ExecutionConfig
from tests.train import toys


def check(changes: dict[str, Any], rows: int = 0, model: Any = toys.MODEL, ranks: int = 2, **more: Any) -> None:
    layout = ParallelConfig(**{"pipeline": 2, **changes})
    execution = toys.EAGER.model_copy(update={"parallel": layout, "micro_batch_rows": rows})
    training = toys.training(optimizer=more.pop("optimizer", "adamw"))
    check_phase(model, training, execution, ranks, **more)


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({}, {"model": toys.LSTM}, "model.kind: lstm does not go with stages"),
        ({}, {"optimizer": "schedule_free_adamw"}, "schedule_free_adamw does not go with stages"),
        ({}, {"layers": LayersConfig(trained_layers=1)}, "layers does not go with stages"),
        ({}, {"tune": LoRAConfig(targets=("layers.1.*.query",))}, "no adapter in blocks 0 to 0, stage 0 of"),
        ({"pipeline": 4}, {"ranks": 4}, "4 stages, but the model has 2 blocks"),
        ({"schedule": "interleaved"}, {}, "4 stages, but the model has 2 blocks"),
        ({}, {"rows": 8}, "makes 1 micro-batches a step, and pipeline: 2 needs at least as many"),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused_by_name(changes: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as raised:
        check(changes, **more)
    assert len(raised.value.message) <= 200


def test_what_fits_passes_whether_the_recipe_names_its_ranks_or_not() -> None:
    for ranks in (1, 2, 4):
        check({}, ranks=ranks)
    check({"schedule": "gpipe"}, rows=4)
    check({"context": 2, "tensor": 2}, ranks=8)
    check({"tensor": 2}, ranks=4, tune=LoRAConfig())


def test_interleaved_micro_batches_come_in_rounds() -> None:
    model = toys.MODEL.model_copy(update={"num_layers": 6})
    check({"pipeline": 3, "schedule": "interleaved"}, rows=2, model=model, ranks=3)  # 4 micro-batches: one round
    with pytest.raises(RecipeError, match="5 micro-batches a step; schedule: interleaved needs a multiple"):
        training = toys.training().model_copy(update={"global_batch_tokens": 5 * toys.CONTEXT_LENGTH})
        layout = ParallelConfig(pipeline=2, schedule="interleaved")
        check_phase(model, training, toys.EAGER.model_copy(update={"parallel": layout, "micro_batch_rows": 1}), 2)


@pytest.mark.parametrize(("schedule", "stages"), [("1f1b", 2), ("gpipe", 3), ("interleaved", 1)])
def test_stages_of_a_rank_fit_the_schedule(schedule: str, stages: int) -> None:
    with pytest.raises(ValidationError, match="stages_per_rank"):
        ParallelConfig(pipeline=2, schedule=schedule, stages_per_rank=stages)
    assert ParallelConfig(pipeline=2, schedule="interleaved").stages == 4


def test_blocks_are_spread_evenly() -> None:
    assert spread(7, 3) == [range(3), range(3, 5), range(5, 7)]
    assert spread(4, 2) == [range(2), range(2, 4)]


def test_a_pipeline_takes_smaller_micro_batches_unless_told() -> None:
    execution = toys.EAGER.model_copy(update={"parallel": ParallelConfig(pipeline=2)})
    assert rows_per_micro_batch(execution, 16, 64) == 8
    assert rows_per_micro_batch(execution, 16, 2) == 1
    assert rows_per_micro_batch(execution.model_copy(update={"micro_batch_rows": 16}), 16, 64) == 16
    assert rows_per_micro_batch(toys.EAGER, 16, 64) == 64


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"optimizer": "adamw_8bit"}, "optimizer.kind: adamw_8bit is for one rank, and here are 2"),
        ({"tune": LoRAConfig(base="nf4")}, "tune.base: nf4 is for one rank"),
    ],
)
def test_what_needs_whole_parameters_is_refused_with_the_recipe(more: dict[str, Any], said: str) -> None:
    for layout in ({"pipeline": 1}, {"pipeline": 1, "shard": 1}):
        with pytest.raises(RecipeError, match=said):
            check(layout, **more)
    check({"pipeline": 1}, ranks=1, **more)


def test_what_needs_whole_parameters_has_them_in_a_stage_of_its_own() -> None:
    check({}, optimizer="adamw_8bit")
    with pytest.raises(RecipeError, match="adamw_8bit is for one rank, and here are 4"):
        check({}, optimizer="adamw_8bit", ranks=4)


@pytest.mark.parametrize("place", ["host", "host:", ":29500", "host:0", "host:99999", "a b:1", "[::1]:295"])
def test_a_place_to_meet_is_a_host_with_a_port(place: str) -> None:
    with pytest.raises(ValidationError, match="give HOST:PORT"):
        ExecutionConfig(rendezvous=place)
    for fine in ("", "first-host.lan:65535", "10.0.0.1:1"):
        assert ExecutionConfig(rendezvous=fine).rendezvous == fine
