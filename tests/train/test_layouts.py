"""Real ranks in every layout: what one wrote all others read, to the bit, and no rank ever holds a whole tensor.

Worlds of 1, 2 and 4 ranks are forked, so none of them imports torch again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from groundup import stage
from groundup.optim import AdamWConfig, build_optimizer, flat_state
from groundup.parallel import ParallelConfig, Rank, data_mesh, join, leave, shard
from groundup.parallel.mesh import data_rank, data_size, degree, part, sharding_mesh
from groundup.train import checkpoint, partition
from groundup.train.average import AverageConfig, WeightAverage, weights_for_use
from groundup.train.snapshot import take
from groundup.train.state import TrainState
from tests.ports import free_port

LAYOUTS = {
    "one": (1, ParallelConfig()),
    "sharded, 2": (2, ParallelConfig()),
    "copies, 2": (2, ParallelConfig(shard=1)),
    "sharded, 4": (4, ParallelConfig()),
    "hybrid, 4": (4, ParallelConfig(shard=2)),
    "copies, 4": (4, ParallelConfig(shard=1)),
    "tensor, 4": (4, ParallelConfig(tensor=2)),
    "tensor and copies, 4": (4, ParallelConfig(tensor=2, shard=1)),
    "pipeline, 4": (4, ParallelConfig(pipeline=2)),
}
STEPS = 2
WIDE = 512

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


class Toy(nn.Module):
    """Sizes that no number of ranks divides."""

    elsewhere: frozenset[str] = frozenset()

    def __init__(self, stage_of_two: int | None) -> None:
        super().__init__()
        if stage_of_two != 1:
            self.table = nn.Embedding(3, 4)
            self.up = nn.Linear(6, 9)
        else:
            self.elsewhere = frozenset({"table.weight", "up.weight", "up.bias"})
        if stage_of_two != 0:
            self.down = nn.Linear(9, 5, bias=False)
            self.scale = nn.Parameter(torch.empty(3))
        else:
            self.elsewhere = frozenset({"down.weight", "scale"})
        self.shared = nn.Parameter(torch.empty(7))


class Wide(nn.Linear):
    """One large matrix."""

    elsewhere: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__(WIDE, WIDE, bias=False)


def toy(mesh: DeviceMesh | None, salt: int, steps: int) -> TrainState:
    """A state with averages and rows that are carried, after some updates without a model's steps."""
    line = part(mesh, "pipeline")
    model: nn.Module = Toy(line.get_local_rank() if line is not None else None)
    if mesh is not None:
        if degree(mesh, "tensor") > 1:
            model = parallelize_module(model, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        fully_shard(model, mesh=sharding_mesh(mesh))
    return trained(model, mesh, salt, steps)


def trained(model: nn.Module, mesh: DeviceMesh | None, salt: int, steps: int) -> TrainState:
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        seed = torch.Generator().manual_seed(salt * 1000 + sum(map(ord, name)))
        shard.copy_full(parameter, torch.randn(parameter.shape, generator=seed))
    optimizer = build_optimizer(AdamWConfig(learning_rate=0.1), parameters, set(), head_name="")
    state = TrainState(
        model=model,  # type: ignore[arg-type]
        optimizer=optimizer,
        device=torch.device("cpu"),
        mesh=mesh,
        average=WeightAverage(AverageConfig(decay=0.5), parameters),
        kept=parameters,
    )
    rows = 4 // data_size(mesh)
    carried = torch.arange(4 * 3).view(4, 3) + 100.0 * salt
    state.memory = {"hidden": carried[data_rank(mesh) * rows :][:rows].clone()}
    for step in range(steps):
        for parameter in parameters.values():
            parameter.grad = parameter.detach().clone()
        optimizer.set_rate_factor(1.0, step)
        optimizer.step()
        optimizer.zero_grad()
        state.step += 1
        assert state.average is not None
        state.average.update(state.step)
    return state


def truth(state: TrainState, folder: Path) -> None:
    """All that this rank can gather, by torch's own means, as whole tensors."""
    place = state.rank
    weights = {name: shard.full_tensor(p.detach()).clone() for name, p in state.kept.items()}
    optimizer = {name: shard.full_tensor(value).clone() for name, value in flat_state(state.optimizer).items()}
    with weights_for_use(state.optimizer, state.average):
        average = {name: shard.full_tensor(p.detach()).clone() for name, p in state.kept.items()}
    for file, found in (("model", weights), ("optimizer", optimizer), ("average", average)):
        save_file(found, folder / f"{file}-{place}.truth")


def world(ranks: int, act: Callable[[int], None]) -> None:
    """Let `act(rank)` run in so many forked processes; what one of them says of a fault is raised."""
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        # What other tests of this process asked DTensor as a fake rank, it would answer this rank with.
        _clear_sharding_prop_cache()
        try:
            act(rank)
        except BaseException:
            told.put(f"rank {rank} of {ranks}: {traceback.format_exc()}")
            os._exit(1)
        os._exit(0)

    children = [fork.Process(target=run, args=(rank,)) for rank in range(ranks)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    said = "" if told.empty() else told.get()
    assert all(child.exitcode == 0 for child in children), said


def in_layouts(ranks: int, act: Callable[[str, DeviceMesh | None], None]) -> None:
    """Let all ranks of a world do `act(layout, mesh)` in every layout of so many ranks."""
    layouts = {name: config for name, (count, config) in LAYOUTS.items() if count == ranks}
    port = free_port()

    def run(rank: int) -> None:
        if ranks > 1:
            join(ParallelConfig(), Rank(rank, ranks, rank, "127.0.0.1", port), "cpu")
        for name, config in layouts.items():
            act(name, data_mesh("cpu", config) if ranks > 1 else None)
        leave()

    world(ranks, run)


def saved(folder: Path, name: str) -> Path:
    return folder / name / checkpoint.folder_name(STEPS)


def test_every_layout_reads_what_every_other_wrote(tmp_path: Path) -> None:
    salts = {name: number for number, name in enumerate(LAYOUTS, start=1)}

    def write(name: str, mesh: DeviceMesh | None) -> None:
        state = toy(mesh, salts[name], STEPS)
        (tmp_path / "truth" / name).mkdir(parents=True, exist_ok=True)
        truth(state, tmp_path / "truth" / name)
        checkpoint.save(tmp_path / name, state, {"note": 1}, keep=1)

    def read_all(name: str, mesh: DeviceMesh | None) -> None:
        for other in LAYOUTS:
            state = toy(mesh, 0, len(other) % 2)
            found = checkpoint.resume(tmp_path / other, state, True, lambda path, fault: None)
            assert found == {"step": STEPS, "note": 1}
            checkpoint.save(tmp_path / f"{other} by {name}", state, {"note": 1}, keep=1)

    for ranks in (1, 2, 4):
        in_layouts(ranks, write)
    for ranks in (1, 2, 4):
        in_layouts(ranks, read_all)
    for name, (ranks, _) in LAYOUTS.items():
        expected, faults = stage.verify(saved(tmp_path, name))
        assert faults == []
        for other in LAYOUTS:
            assert stage.verify(saved(tmp_path, f"{name} by {other}")) == (expected, []), f"{name}, read by {other}"
        is_in_parts = (saved(tmp_path, name) / "parts.json").exists()
        assert is_in_parts == (ranks > 1)
        checkpoint.consolidate(tmp_path / name)
        assert stage.verify(saved(tmp_path, name)) == (expected, [])
        of_one = sorted(path.name for path in saved(tmp_path, "one").iterdir())
        assert sorted(path.name for path in saved(tmp_path, name).iterdir()) == of_one
        for file in ("model", "optimizer", "average"):
            whole: dict[str, torch.Tensor] = {}
            for rank in range(ranks):
                whole |= load_file(tmp_path / "truth" / name / f"{file}-{rank}.truth")
            save_file(whole, tmp_path / "expected", metadata={"format": "pt"})
            found = (saved(tmp_path, name) / f"{file}.safetensors").read_bytes()
            assert found == (tmp_path / "expected").read_bytes(), f"{name}: {file}"


def peak_bytes(act: Callable[[], Any]) -> int:
    """Most bytes that were allocated at once on the way, by torch's allocator."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        act()
    held = peak = 0
    events = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_no_rank_needs_more_memory_than_its_part(tmp_path: Path) -> None:
    port = free_port()
    whole = WIDE * WIDE * 4

    def run(rank: int) -> None:
        mesh = join(ParallelConfig(), Rank(rank, 4, rank, "127.0.0.1", port), "cpu")
        model = Wide()
        fully_shard(model, mesh=mesh)
        state = trained(model, mesh, 1, 1)
        state.average, state.memory = None, {}
        taken: list[Any] = []
        copying = peak_bytes(lambda: taken.append(take(state, {}, copied=True)))
        written = sum(t.numel() * t.element_size() for parts in taken[0].files.values() for t in parts.values())
        checkpoint.save(tmp_path, state, {}, keep=1)
        reading = peak_bytes(lambda: checkpoint.resume(tmp_path, state, True, lambda path, fault: None))
        (tmp_path / f"{rank}.json").write_text(json.dumps([copying, written, reading]), encoding="utf-8")
        leave()

    world(4, run)
    for rank in range(4):
        copying, written, reading = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert written == pytest.approx(3 * whole / 4, rel=0.01), "weights and two moments, shared out evenly"
        assert copying < 1.1 * written
        # A gradient of zeros for the optimizer to make its state by, its two moments, and one part that is being read.
        assert reading < 1.1 * 4 * whole / 4


def test_the_work_is_the_same_for_all_ranks_where_all_hold_the_same() -> None:
    held = {"model.safetensors": {f"layer.{n}": ["F32", [3000, 400], [0, 0], [3000, 400]] for n in range(3)}}
    index = partition.divide([held] * 4)
    bytes_of = dict.fromkeys(range(4), 0)
    for entry in index.files["model.safetensors"].values():
        for each in entry.parts:
            bytes_of[int(each.file.split("-")[1])] += each.box.count * 4
    assert max(bytes_of.values()) - min(bytes_of.values()) <= 2 * 400 * 4 * 3
    assert index.size_bytes == sum(bytes_of.values()) == 3 * 3000 * 400 * 4
