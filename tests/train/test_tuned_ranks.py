"""Adapters on ranks that share layers, or have some each, learn what one rank learns; and checkpoints go both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from groundup.export.adapter import WEIGHTS, save_adapter
from groundup.models import DoRAConfig, LoRAConfig, LowRankConfig, build_model, tuning
from groundup.parallel import ParallelConfig, Rank, data_mesh, join, leave
from groundup.train import checkpoint
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys
from tests.train.kinds import decoder

STEPS = 3
CASES: dict[str, tuple[Any, LowRankConfig]] = {
    "one head of keys for all": (toys.MODEL, LoRAConfig(rank=3, alpha=12, dropout=0.3)),
    "biases, lengths of rows, a tied table": (
        decoder("gpt2").model_copy(update={"num_kv_heads": 2}),
        DoRAConfig(rank=2, alpha=8, dropout=0.2, also=("embedding.weight",)),
    ),
    "some layers": (decoder("llama"), DoRAConfig(rank=2, alpha=8, targets=("key", "value", "ffn.down"))),
}
LAYOUTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {"one": {}},
    2: {"tensor": {"tensor": 2}, "pipeline": {"pipeline": 2}, "context": {"context": 2}},
    4: {
        "tensor and data": {"tensor": 2},
        "tensor and copies": {"tensor": 2, "shard": 1},
        "pipeline and data": {"pipeline": 2},
        "pipeline and tensor": {"pipeline": 2, "tensor": 2},
        "pipeline and context": {"pipeline": 2, "context": 2},
    },
}


def made(case: str, mesh: Any, layout: dict[str, Any]) -> TrainState:
    """A state on the weights of a phase before; blocks compute again, so that what is dropped must be told again."""
    model, tune = CASES[case]
    before = build_model(model, toys.VOCAB_SIZE)
    before.initialise(8)
    start = {name: parameter.detach() for name, parameter in before.named_parameters()}
    execution = toys.EAGER.model_copy(update={"parallel": ParallelConfig(**layout), "recompute": bool(layout)})
    device, training = torch.device("cpu"), toys.training(optimizer="adamw")
    return build_state(model, toys.VOCAB_SIZE, training, execution, 3, device=device, mesh=mesh, start=start, tune=tune)


def steps(state: TrainState, first: int, end: int) -> list[float]:
    found, mine = [], 8 // state.data_size  # two rows at a time: gradients are added up, in few passes
    for number in range(first, end):
        at = state.data_rank * mine
        batches = [toys.mixture().batch(number, row, 2) for row in range(at, at + mine, 2)]
        done = train_step(state, batches, toys.objectives(), learning_rate_factor=1.0, max_grad_norm=0.5)
        found += [float(done.loss), float(done.grad_norm), *done.source_losses.tolist()]
    return found


def learning(state: TrainState) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in state.kept.items()}


def work(rank: int, ranks: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        join(ParallelConfig(), Rank(rank, ranks, rank, "127.0.0.1", port), "cpu")
    found: dict[str, Any] = {}
    for name, layout in LAYOUTS[ranks].items():
        mesh = data_mesh("cpu", ParallelConfig(**layout)) if ranks > 1 else None
        for case in CASES:
            state = made(case, mesh, layout)
            place = Path(folder, name, case)
            checkpoint.save(place / "start", state, {}, keep=1)
            told = {"steps": steps(state, 0, STEPS)}
            checkpoint.save(place / "end", state, {}, keep=1)
            other = made(case, mesh, layout)
            checkpoint.resume(Path(folder, "one", case, "end"), other, True, lambda path, fault: None)
            found[f"{name} {case}"] = {**told, "gone on": steps(other, STEPS, STEPS + 1)}
    Path(folder, f"{ranks}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("step-*")
    return dict(checkpoint.read_tensors(path / checkpoint.WEIGHTS))


def compare(folder: Path, ranks: int) -> None:
    """Several ranks in all their layouts beside one."""
    work(0, 1, 0, str(folder))
    port = free_port()
    run_ranks(work, ranks, ranks, port, str(folder))
    one = json.loads((folder / "1-0.json").read_text(encoding="utf-8"))
    many = [json.loads((folder / f"{ranks}-{rank}.json").read_text(encoding="utf-8")) for rank in range(ranks)]
    assert all(each == many[0] for each in many), "every rank sees the same"
    for layout in LAYOUTS[ranks]:
        for case in CASES:
            check(folder, layout, case, one[f"one {case}"], many[0][f"{layout} {case}"])


def check(folder: Path, layout: str, case: str, one: dict[str, Any], many: dict[str, Any]) -> None:
    (model, tune), said = CASES[case], f"{layout}: {case}"
    assert many["steps"] == pytest.approx(one["steps"], rel=1e-5), said
    assert many["gone on"] == pytest.approx(one["gone on"], rel=1e-5), said
    expected, found = (
        {part: tensors(folder / name / case / part) for part in ("start", "end")} for name in ("one", layout)
    )
    assert found["start"].keys() == expected["start"].keys(), said
    assert all(torch.equal(found["start"][name], expected["start"][name]) for name in expected["start"]), said
    back = made(case, None, {})
    checkpoint.resume(folder / layout / case / "end", back, True, lambda path, fault: None)
    assert learning(back).keys() == found["end"].keys()
    assert steps(back, STEPS, STEPS + 1) == pytest.approx(one["gone on"], rel=2e-5), said
    base = {name: p.detach() for name, p in made(case, None, {}).model.named_parameters() if ".adapter." not in name}
    whole = [tuning.merged(model, toys.VOCAB_SIZE, tune, base, each["end"]) for each in (expected, found)]
    for name, weight in whole[0].items():
        torch.testing.assert_close(whole[1][name], weight, rtol=1e-4, atol=1e-5, msg=f"{said}: {name}")
    if not tune.also:
        for name, each in (("one", expected), (layout, found)):
            save_adapter(model, toys.VOCAB_SIZE, tune, each["end"], folder / name / case / "peft")
        one_file, other = (load_file(folder / name / case / "peft" / WEIGHTS) for name in ("one", layout))
        assert other.keys() == one_file.keys()
        for name, weight in one_file.items():
            torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-5, msg=f"{said}: {name}")
    assert any(not torch.equal(weight, base[name]) for name, weight in whole[0].items()), "else nothing was learnt"


def test_two_ranks_learn_the_adapters_of_one(tmp_path: Path) -> None:
    compare(tmp_path, 2)


@pytest.mark.slow
def test_four_ranks_learn_the_adapters_of_one(tmp_path: Path) -> None:
    compare(tmp_path, 4)
