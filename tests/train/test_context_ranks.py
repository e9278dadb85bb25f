"""Real ranks that share rows do what one does: losses, gradients, validation; and one goes on after them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import DeviceMesh

from groundup.evaluate.language import target_sums
from groundup.parallel import ParallelConfig, Rank, data_mesh, join, leave, shard
from groundup.train import checkpoint
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys

MODEL = toys.MODEL.model_copy(
    update={"num_heads": 4, "num_kv_heads": 2, "attention_dropout": 0.2, "residual_dropout": 0.2, "sliding_window": 9}
)
STEPS = 3
LAYOUTS: dict[int, list[dict[str, Any]]] = {
    2: [{"context": 2, "context_attention": "gather"}, {"context": 2, "context_attention": "ring"}],
    4: [
        {"context": 4, "context_attention": "ring"},
        {"context": 2, "context_attention": "ring"},
        {"context": 2, "shard": 1, "context_attention": "gather"},
        {"context": 2, "shard": 2},
        {"context": 2, "tensor": 2, "context_attention": "gather"},
        {"context": 2, "tensor": 2, "context_attention": "ring"},
        {"context": 2, "pipeline": 2, "context_attention": "gather"},
        {"context": 2, "pipeline": 2, "context_attention": "ring", "schedule": "gpipe"},
    ],
}


def built(mesh: DeviceMesh | None, parallel: ParallelConfig) -> TrainState:
    # Gradient descent: the difference of the weights is the gradient.
    execution = toys.EAGER.model_copy(update={"parallel": parallel})
    return build_state(
        MODEL, toys.VOCAB_SIZE, toys.training(optimizer="sgd"), execution, 3, device=torch.device("cpu"), mesh=mesh
    )


def steps(state: TrainState, first: int, count: int) -> list[float]:
    rows = 8 // state.data_size
    losses = []
    for step in range(first, first + count):
        at = state.data_rank * rows
        batches = [toys.mixture().batch(step, start, rows // 2) for start in (at, at + rows // 2)]
        result = train_step(state, batches, toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses += [float(result.loss), float(result.grad_norm), *result.source_losses.tolist(), int(result.targets)]
    return losses


def validated(state: TrainState) -> list[float]:
    with shard.gathered_for_reading(state.model):
        sums = target_sums(state.model, toys.mixture().batch(0, 0, 4), torch.arange(toys.VOCAB_SIZE))
    return [float(value) for value in sums.flatten()]


def whole(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: shard.full_tensor(p.detach()).clone() for name, p in state.model.named_parameters()}


def train(rank: int, world_size: int, port: int, folder: Path, layouts: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    join(ParallelConfig(), Rank(rank, world_size, rank, "127.0.0.1", port), "cpu")
    for number, layout in enumerate(layouts):
        parallel = ParallelConfig(**layout)
        state = built(data_mesh("cpu", parallel), parallel)
        told: dict[str, Any] = {"losses": steps(state, 0, 1)}
        after = whole(state)
        told["losses"] += steps(state, 1, STEPS - 1)
        told["validated"] = validated(state)
        told["names"] = sorted({*dict(state.model.named_parameters()), *state.model.elsewhere})
        checkpoint.save(folder / str(number), state, {}, keep=1)
        save_file(after, folder / f"{number}-{rank}.safetensors")  # in a pipeline each has its own stage
        if rank == 0:
            (folder / f"{number}.json").write_text(json.dumps(told), encoding="utf-8")
    leave()


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_that_share_rows_train_like_one(tmp_path: Path, world_size: int) -> None:
    one = built(None, ParallelConfig())
    losses = steps(one, 0, 1)
    after = whole(one)
    losses += steps(one, 1, STEPS - 1)
    port = free_port()
    layouts = LAYOUTS[world_size]
    run_ranks(train, world_size, world_size, port, tmp_path, layouts)
    expected = {"losses": losses, "validated": validated(one), "names": sorted(after)}
    went_on = steps(one, STEPS, 1)
    for number, layout in enumerate(layouts):
        told = json.loads((tmp_path / f"{number}.json").read_text(encoding="utf-8"))
        assert told["names"] == expected["names"], layout
        assert told["losses"] == pytest.approx(expected["losses"], rel=1e-5), layout
        assert told["validated"] == pytest.approx(expected["validated"], rel=1e-4, abs=1e-5), layout
        files = [load_file(tmp_path / f"{number}-{rank}.safetensors") for rank in range(world_size)]
        assert {name for file in files for name in file} == after.keys()
        for name, found in (entry for file in files for entry in file.items()):
            torch.testing.assert_close(found, after[name], rtol=1e-5, atol=1e-6, msg=f"{layout}: {name}")
        again = built(None, ParallelConfig())
        checkpoint.resume(tmp_path / str(number), again, True, lambda path, fault: None)
        assert again.step == STEPS and steps(again, STEPS, 1) == pytest.approx(went_on, rel=1e-5), layout
