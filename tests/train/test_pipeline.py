"""Stages on real ranks do what one rank does, in every schedule; and checkpoints go from any layout to any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from groundup.parallel import ParallelConfig, Rank, data_mesh, join, leave, shard
from groundup.parallel.fake import fake_world
from groundup.parallel.mesh import degree
from groundup.train import checkpoint
from groundup.train.average import AverageConfig
from groundup.train.faults import Fault, Faults
from groundup.train.state import TrainState, build_state
from groundup.train.step import StepResult, train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys

STEPS = 3
DROPPING = {"num_layers": 4, "residual_dropout": 0.2, "stochastic_depth": 0.3, "attention_dropout": 0.1}
LEARNED = {"num_layers": 5, "positions": "learned", "norm": "layer", "gated": False, "tied": True}
CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "1f1b": ({**DROPPING, "tied": True}, "adamw", {}),
    "interleaved": (LEARNED, "adamw", {"schedule": "interleaved"}),
    "gpipe": ({"num_layers": 3}, "muon", {"schedule": "gpipe"}),
}
"""Schedule -> what the model has, its optimizer, its layout."""


def make(case: str, mesh: Any, recompute: bool = False) -> TrainState:
    model, rule, layout = CASES[case]
    parallel = ParallelConfig()
    if mesh is not None:
        parallel = ParallelConfig(pipeline=2, tensor=degree(mesh, "tensor"), **layout)
    execution = toys.EAGER.model_copy(update={"parallel": parallel, "recompute": recompute})
    return build_state(
        toys.MODEL.model_copy(update=model),
        toys.VOCAB_SIZE,
        toys.training(optimizer=rule, average=AverageConfig(decay=0.5)),
        execution,
        seed=3,
        device=torch.device("cpu"),
        mesh=mesh,
    )


def step(state: TrainState, number: int, rows: int = 1) -> StepResult:
    mine = 8 // state.data_size
    first = state.data_rank * mine
    batches = [toys.mixture().batch(number, at, rows) for at in range(first, first + mine, rows)]
    return train_step(state, batches, toys.objectives(), learning_rate_factor=1.0, max_grad_norm=0.5)


def read(state: TrainState) -> list[float]:
    """What the model says of two rows of a text."""
    batch = toys.mixture().batch(99, 0, 2)
    with shard.gathered_for_reading(state.model):
        logits = state.model(**batch.inputs())
    assert logits.shape == (2, toys.CONTEXT_LENGTH, toys.VOCAB_SIZE)
    return [float(logits.double().abs().sum()), float(logits.double().square().sum())]


def figures(state: TrainState, steps: range) -> dict[str, list[Any]]:
    done = [step(state, number) for number in steps]
    return {
        "losses": [float(each.loss) for each in done],
        "sources": [each.source_losses.tolist() for each in done],
        "norms": [float(each.grad_norm) for each in done],
        "read": read(state),
    }


def work(rank: int, world_size: int, port: int, folder: str) -> None:
    """All cases, from the start and from one rank's checkpoint; writes what each rank sees."""
    torch.set_num_threads(1)
    layouts: dict[str, Any] = {"one": None}
    if world_size > 1:
        join(ParallelConfig(pipeline=2), Rank(rank, world_size, rank, "127.0.0.1", port), "cpu")
        layouts = {f"shard{size}": data_mesh("cpu", ParallelConfig(pipeline=2, shard=size)) for size in (0, 1)}
        if world_size == 2:
            del layouts["shard1"]
        else:
            layouts["tensor"] = data_mesh("cpu", ParallelConfig(pipeline=2, tensor=2))
    found: dict[str, Any] = {}
    for layout, mesh in layouts.items():
        for case in CASES:
            place = Path(folder, str(world_size), layout, case)
            state = make(case, mesh)
            checkpoint.save(place / "start", state, {}, keep=1)
            found[f"{layout} {case}"] = {"before": read(state), **figures(state, range(STEPS))}
            checkpoint.save(place / "end", state, {}, keep=1)
            if world_size > 1:
                other = make(case, mesh, recompute=True)
                checkpoint.resume(Path(folder, "1", "one", case, "end"), other, True, lambda path, fault: None)
                checkpoint.save(place / "again", other, {}, keep=1)
                found[f"{layout} {case}"]["after"] = figures(other, range(STEPS, STEPS + 1))
        with Faults((Fault("nan_loss", state.step + 1),), rank).during_step(state):
            found[f"{layout} refused"] = bool(step(state, STEPS).updated)
    Path(folder, f"{world_size}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("step-*")
    return dict(checkpoint.read_tensors(path / name))


def compare(folder: Path, world_size: int, layout: str) -> None:
    """What ranks did in a layout, beside what one did."""
    one = json.loads((folder / "1-0.json").read_text(encoding="utf-8"))
    ranks = [
        json.loads((folder / f"{world_size}-{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)
    ]
    for case, (_, rule, _) in CASES.items():
        mine, theirs = one[f"one {case}"], ranks[0][f"{layout} {case}"]
        assert all(rank[f"{layout} {case}"] == theirs for rank in ranks), "every rank sees the same"
        # Ranks that share a layer add its products up in another order, and every update makes that larger.
        tolerance = (1e-5 if rule == "adamw" else 1e-3) * (10 if layout == "tensor" else 1)
        for what in ("before", "losses", "norms", "read"):
            assert theirs[what] == pytest.approx(mine[what], rel=1e-5 if what == "before" else tolerance), (case, what)
        for expected, found in zip(mine["sources"], theirs["sources"], strict=True):
            assert found == pytest.approx(expected, rel=tolerance)
        place, single = folder / str(world_size) / layout / case, folder / "1/one" / case
        for file in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.AVERAGE):
            expected, again = tensors(single / "end", file), tensors(place / "again", file)
            assert expected.keys() == again.keys() == tensors(place / "end", file).keys()
            assert all(torch.equal(again[name], expected[name]) for name in expected), (case, file)
        start, expected = tensors(place / "start", checkpoint.WEIGHTS), tensors(single / "start", checkpoint.WEIGHTS)
        assert start.keys() == expected.keys() and all(torch.equal(start[n], expected[n]) for n in start), case
        state = make(case, None)
        checkpoint.resume(place / "end", state, True, lambda path, fault: None)
        after = figures(state, range(STEPS, STEPS + 1))
        assert after["losses"] == pytest.approx(theirs["after"]["losses"], rel=tolerance), case
    assert not ranks[0][f"{layout} refused"] and not one["one refused"]


def test_two_stages_train_like_one_rank_in_every_schedule(tmp_path: Path) -> None:
    work(0, 1, 0, str(tmp_path))
    run_ranks(work, 2, 2, free_port(), str(tmp_path))
    compare(tmp_path, 2, "shard0")


@pytest.mark.slow
def test_stages_with_data_ranks_train_like_one_rank(tmp_path: Path) -> None:
    work(0, 1, 0, str(tmp_path))
    run_ranks(work, 4, 4, free_port(), str(tmp_path))
    for layout in ("shard0", "shard1", "tensor"):
        compare(tmp_path, 4, layout)


@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        (2, {}),
        (4, {"schedule": "interleaved"}),
        (4, {"schedule": "gpipe", "shard": 1}),
        (4, {"context": 2}),
        (8, {"context": 2, "tensor": 2}),
    ],
)
def test_a_step_of_the_first_stage_runs_on_ranks_that_are_not_there(ranks: int, layout: dict[str, Any]) -> None:
    config = ParallelConfig(pipeline=2, **layout)
    execution = toys.EAGER.model_copy(update={"parallel": config})
    model = toys.MODEL.model_copy(update={"num_layers": 4, "tied": True})
    with fake_world(ranks, config) as mesh:
        state = build_state(
            model, toys.VOCAB_SIZE, toys.training(), execution, seed=3, device=torch.device("cpu"), mesh=mesh
        )
        result = step(state, 0)
        assert isinstance(result.loss, FakeTensor) and state.step == 1
        with shard.gathered_for_reading(state.model):
            assert state.model(**toys.mixture().batch(1, 0, 2).inputs()).shape == (2, 16, toys.VOCAB_SIZE)
        assert {int(name.split(".")[1]) for name in state.model.elsewhere if "layers." in name} == (
            {1, 3} if config.schedule == "interleaved" else {2, 3}
        )
