"""`runtime.exact`: 1, 2 and 4 ranks end with the same bits, and copies that differ are found and mended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh

from groundup.errors import FIRST_LINE_LIMIT, ResourceError
from groundup.log import read_lines
from groundup.optim import flat_state
from groundup.parallel import ParallelConfig, Rank, data_mesh, join, leave, shard
from groundup.parallel.fake import fake_world
from groundup.parallel.ordered import rows_of_all_ranks
from groundup.train import checkpoint
from groundup.train.average import AverageConfig
from groundup.train.faults import parse_faults
from groundup.train.guards import StopRequest
from groundup.train.journal import Journal
from groundup.train.layout import rows_per_micro_batch
from groundup.train.loop import train as train_phase
from groundup.train.settings import ExecutionConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from groundup.train.way import configure_threads
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys
from tests.train.kinds import CASES as CASES_OF_ALL
from tests.train.kinds import Case, decoder
from tests.train.preference_toys import with_rule

COPIES = ParallelConfig(shard=1)
EXACT = toys.EAGER.model_copy(update={"exact": True, "parallel": COPIES})
DROPPING = {"embedding_dropout": 0.1, "residual_dropout": 0.2, "stochastic_depth": 0.3}
MIXTURE = CASES_OF_ALL["qwen3: mixture"]
CASES: dict[str, tuple[Case, dict[str, Any], int]] = {
    # Case, changes of the training section, rows of a virtual shard (0: the default, here one)
    "decoder, dropout, two objectives": (
        replace(MIXTURE, model=decoder("qwen3").model_copy(update=DROPPING)),
        {"average": AverageConfig(decay=0.5)},
        2,
    ),
    "decoder, bf16": (replace(MIXTURE, model=decoder("gpt2")), {"precision": "bf16", "optimizer": "adamw"}, 0),
    "decoder, adafactor": (MIXTURE, {"optimizer": "adafactor"}, 2),
    "lora": (CASES_OF_ALL["lora: mixture"], {"optimizer": "adamw", "precision": "bf16"}, 2),
    "lstm, states carried": (
        replace(CASES_OF_ALL["lstm: next token"], model=toys.LSTM.model_copy(update={"dropout": 0.2})),
        {"optimizer": "adamw"},
        2,
    ),
    "encoder, two heads": (CASES_OF_ALL["encoder: masked and next sentence"], {"optimizer": "lion"}, 0),
    "preferences": (CASES_OF_ALL["qwen3: dpo"], {"optimizer": "adamw"}, 0),
}
STEPS = 3
SPLIT = "decoder, bf16"
"""The case that goes on with another number of ranks."""
ROUNDED = ("lstm, states carried", "preferences")
"""Cases in float32 whose losses other layouts give to rounding."""


@pytest.fixture
def as_before() -> Iterator[None]:
    """Settings of the process that a run with `exact` changes come back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def build(name: str, execution: ExecutionConfig, mesh: DeviceMesh | None) -> TrainState:
    case, changes, _ = CASES[name]
    training = with_rule(toys.training(**changes), case.rule) if case.rule else toys.training(**changes)
    device, more = torch.device("cpu"), dict[str, Any](layers=case.layers, tune=case.tune)
    return build_state(case.model, toys.VOCAB_SIZE, training, execution, 3, device=device, mesh=mesh, **more)


def bits(state: TrainState) -> str:
    """A hash over everything that a step changes; every rank must call it."""
    tensors = {**dict(state.model.named_parameters()), **flat_state(state.optimizer), **toys.averages(state)}
    whole = {name: shard.full_tensor(value.detach()).contiguous() for name, value in tensors.items()}
    whole |= {name: rows_of_all_ranks(kept, state.mesh) for name, kept in state.memory.items()}
    found = hashlib.sha256()
    for name, value in sorted(whole.items()):
        found.update(name.encode() + value.view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def steps(name: str, execution: ExecutionConfig, state: TrainState, count: int = STEPS) -> list[list[str]]:
    """Losses, norms and the losses of sources of each step, to the last bit."""
    case, _, _ = CASES[name]
    mixture, found = case.mixture(), []
    rows = mixture.rows_per_step // state.data_size
    size = rows_per_micro_batch(execution, mixture.context_length, rows, state.data_size)
    first = state.data_rank * rows
    for step in range(state.step, state.step + count):
        batches = [mixture.batch(step, at, size) for at in range(first, first + rows, size)]
        done = train_step(state, batches, case.objectives, learning_rate_factor=1.0, max_grad_norm=0.5)
        numbers = [float(done.loss), float(done.grad_norm), *done.source_losses.tolist()]
        found.append([number.hex() for number in numbers])
    return found


def exact(name: str) -> ExecutionConfig:
    return EXACT.model_copy(update={"micro_batch_rows": CASES[name][2]})


def all_cases(mesh: DeviceMesh | None, folder: Path) -> dict[str, Any]:
    """Every case on these ranks, its bits after each part; one goes on from what fewer ranks have saved."""
    found: dict[str, Any] = {}
    for name in CASES:
        state = build(name, exact(name), mesh)
        start = bits(state)
        found[name] = {"start": start, "steps": steps(name, exact(name), state), "end": bits(state)}
        assert found[name]["start"] != found[name]["end"]
        if name == SPLIT:
            checkpoint.save(folder / str(state.world_size), state, {}, keep=1)
            found[name]["on"] = [steps(name, exact(name), state, 1), bits(state)]
    return found


def gone_on(mesh: DeviceMesh | None, saved: Path) -> list[Any]:
    """A step more from a checkpoint of another number of ranks."""
    state = build(SPLIT, exact(SPLIT), mesh)
    checkpoint.resume(saved, state, True, lambda path, fault: None)
    return [steps(SPLIT, exact(SPLIT), state, 1), bits(state)]


def layouts(world_size: int) -> dict[str, Any]:
    """Starting bits and losses of other layouts without `exact`, each tried twice."""
    found: dict[str, Any] = {}
    for of_a_copy in {1, 2, world_size}:
        mesh = data_mesh("cpu", ParallelConfig(shard=of_a_copy))
        for name in ROUNDED:
            tried: list[Any] = []
            for _ in range(2):
                state = build(name, toys.EAGER, mesh)
                tried.append([bits(state), steps(name, toys.EAGER, state), bits(state)])
            start, done, _ = tried[0]
            found[f"{name}/{of_a_copy}"] = {"start": start, "losses": losses(done), "same": tried[0] == tried[1]}
    return found


def losses(found: list[list[str]]) -> list[float]:
    return [float.fromhex(numbers[0]) for numbers in found]


def run(folder: Path, mesh: DeviceMesh | None, execution: ExecutionConfig, faults: str) -> tuple[str, str]:
    """Twelve steps in the loop; returns the bits of the end, or the error's first line."""
    config = toys.training(optimizer="adamw")
    state = build_state(toys.MODEL, toys.VOCAB_SIZE, config, execution, 3, device=torch.device("cpu"), mesh=mesh)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal("pretrain", folder, None, writes=state.rank == 0)
    phase = toys.phase(config)
    try:
        train_phase(phase, state, execution, folder, journal, StopRequest(), parse_faults(faults))
    except ResourceError as error:
        return "", error.message
    return bits(state), ""


def flipped(folder: Path, mesh: DeviceMesh) -> dict[str, Any]:
    """A bit of one copy flips: between checkpoints of each step, and where there is no checkpoint yet."""
    found: dict[str, Any] = {}
    tried = {"exact": (mesh, True), "copies": (mesh, False)}
    if mesh.size() == 4:
        tried["hybrid"] = data_mesh("cpu", ParallelConfig(shard=2)), False
    for name, (layout, is_exact) in tried.items():
        changes = {"exact": is_exact, "check_ranks_every_steps": 4, "checkpoint_every_seconds": 1e-9}
        execution = EXACT.model_copy(update=changes)
        plain = run(folder / f"{name}-plain", layout, execution, "")
        found[name] = [plain, run(folder / name, layout, execution, "bitflip_param@6:rank1")]
    never_saved = EXACT.model_copy(update={"check_ranks_every_steps": 4, "validate_every_steps": 0})
    found["no checkpoint"] = run(folder / "no checkpoint", mesh, never_saved, "bitflip_param@2:rank1")
    return found


def on_a_rank(rank: int, world_size: int, port: int, folder: str) -> None:
    configure_threads(EXACT)
    mesh = join(COPIES, Rank(rank, world_size, rank, "127.0.0.1", port), "cpu")
    found: dict[str, Any] = {"exact": all_cases(mesh, Path(folder)), "on": gone_on(mesh, Path(folder, "1"))}
    found["layouts"] = layouts(world_size)
    found["flipped"] = flipped(Path(folder, f"flipped-{world_size}"), mesh)
    if rank == 0:
        Path(folder, f"{world_size}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


def ranks(world_size: int, folder: Path) -> dict[str, Any]:
    port = free_port()
    run_ranks(on_a_rank, world_size, world_size, port, str(folder))
    found: dict[str, Any] = json.loads((folder / f"{world_size}.json").read_text(encoding="utf-8"))
    return found


def events(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_lines(folder / "logs/events.jsonl") if event["event"] == "ranks_differ"]


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_do_not_change_a_bit(tmp_path: Path, as_before: None, world_size: int) -> None:
    configure_threads(EXACT)
    one = all_cases(None, tmp_path)
    several = ranks(world_size, tmp_path)
    for name, expected in one.items():
        assert several["exact"][name] == expected, name
    assert several["on"] == one[SPLIT]["on"], "on several ranks from the checkpoint of one"
    assert gone_on(None, tmp_path / str(world_size)) == one[SPLIT]["on"], "and back"

    for layout, found in several["layouts"].items():
        name = layout.partition("/")[0]
        state = build(name, toys.EAGER, None)
        assert found["start"] == bits(state) and found["same"], layout
        assert found["losses"] == pytest.approx(losses(steps(name, toys.EAGER, state)), rel=1e-5), layout

    # The minority; both where there are two copies. In the hybrid ranks 1 and 3 hold the same half.
    at_fault = {2: {"exact": [0, 1], "copies": [0, 1]}, 4: {"exact": [1], "copies": [1], "hybrid": [1, 3]}}[world_size]
    for name in at_fault:
        plain, mended = several["flipped"][name]
        assert mended == plain and plain[0], name
        (event,) = events(tmp_path / f"flipped-{world_size}" / name)
        assert event["ranks"] == at_fault[name] and event["step"] == 6 and event["names"][0] == "embedding.weight"
        assert not events(tmp_path / f"flipped-{world_size}" / f"{name}-plain")
    digests = [
        [line["state_digest"] for line in read_lines(folder / "logs/metrics.jsonl") if "state_digest" in line]
        for folder in (tmp_path / f"flipped-{world_size}" / name for name in ("exact", "exact-plain"))
    ]
    assert digests[0] == digests[1] and len(set(digests[0])) >= 3
    _, message = several["flipped"]["no checkpoint"]
    assert message.startswith("step 4: copies differ (rank") and "no checkpoint" in message
    assert len(message) <= FIRST_LINE_LIMIT


def test_other_virtual_shards_are_another_order_of_sums(as_before: None) -> None:
    configure_threads(EXACT)
    assert torch.get_num_threads() == 1
    name = "decoder, dropout, two objectives"
    found = []
    for rows in (1, 2, 8):
        execution = EXACT.model_copy(update={"micro_batch_rows": rows})
        state = build(name, execution, None)
        found.append((losses(steps(name, execution, state)), bits(state)))
    assert len({end for _, end in found}) == 3
    for other, _ in found[1:]:
        assert other == pytest.approx(found[0][0], rel=1e-3)


def test_memory_that_does_not_hold_a_virtual_shard_ends_the_run_instead_of_changing_the_order(
    tmp_path: Path, as_before: None
) -> None:
    configure_threads(EXACT)
    found, message = run(tmp_path, None, EXACT.model_copy(update={"micro_batch_rows": 4}), "oom@2")
    assert not found and "set runtime.micro_batch_rows=2" in message


def test_the_exact_step_runs_on_ranks_that_are_not_there() -> None:
    name = "decoder, bf16"
    with fake_world(4, COPIES) as mesh:
        with unset_fake_temporarily():  # plain parameters cannot be materialised as fake ones (torch 2.13)
            state = build(name, exact(name), mesh)
        case = CASES[name][0]
        batches = [case.mixture().batch(0, at, 1) for at in range(2)]
        done = train_step(state, batches, case.objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        assert isinstance(done.loss, FakeTensor)
        assert done.loss.shape == done.grad_norm.shape == () and done.source_losses.shape == (2,)
