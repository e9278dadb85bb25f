"""Two real ranks do what one does, with dropout, carried states and every optimizer; and one goes on after two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from groundup.parallel import ParallelConfig, Rank, join, leave
from groundup.train import checkpoint
from groundup.train.average import AverageConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys
from tests.train.kinds import CASES as CASES_OF_ALL
from tests.train.kinds import Case

MODELS = {
    "decoder": toys.MODEL.model_copy(update={"residual_dropout": 0.2, "stochastic_depth": 0.3}),
    "lstm": toys.LSTM.model_copy(update={"dropout": 0.2}),
}
RULES = [name for name in toys.RULES if name != "adamw_8bit"]
"""The 8-bit moments are compiled for each shape of a shard, which takes too long here."""
CASES = [("decoder", rule) for rule in RULES] + [("lstm", "adamw"), ("lstm", "adafactor")]
STEPS = 3
PREFERENCES = ("dpo", "kto")


def steps(state: TrainState, first: int, count: int) -> list[float]:
    rows = 8 // state.world_size
    losses = []
    for step in range(first, first + count):
        batch = toys.mixture(order="continuous").batch(step, state.rank * rows, rows)
        result = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(result.loss))
    return losses


def compared(state: TrainState, case: Case) -> list[float]:
    """Losses of steps on preferences and text."""
    rows, mixture = 8 // state.world_size, case.mixture()
    batches = (mixture.batch(step, state.rank * rows, rows) for step in range(STEPS))
    done = [
        train_step(state, [batch], case.objectives, learning_rate_factor=1.0, max_grad_norm=1.0) for batch in batches
    ]
    return [float(each.loss) for each in done]


def train(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = Rank(rank=rank, world_size=world_size, local_rank=rank, address="127.0.0.1", port=port)
    mesh = join(ParallelConfig(), place, "cpu") if world_size > 1 else None
    found: dict[str, list[float]] = {}
    for model, rule in CASES:
        config = toys.training(optimizer=rule, average=AverageConfig(decay=0.5))
        state = build_state(
            MODELS[model], toys.VOCAB_SIZE, config, toys.EAGER, seed=3, device=torch.device("cpu"), mesh=mesh
        )
        found[f"{model} {rule}"] = steps(state, 0, STEPS)
        checkpoint.save(Path(folder, str(world_size), model, rule), state, {}, keep=1)
    for rule in PREFERENCES:
        case = CASES_OF_ALL[f"qwen3: {rule}"]
        state = case.state(toys.training(optimizer="adamw"), mesh=mesh)
        found[f"preferences {rule}"] = compared(state, case)
    if rank == 0:
        Path(folder, f"{world_size}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


@pytest.mark.slow
def test_two_ranks_train_like_one_and_one_goes_on_from_their_checkpoint(tmp_path: Path) -> None:
    port = free_port()
    train(0, 1, 0, str(tmp_path))
    run_ranks(train, 2, 2, port, str(tmp_path))
    one, two = (json.loads((tmp_path / f"{n}.json").read_text(encoding="utf-8")) for n in (1, 2))
    for case, losses in one.items():
        assert two[case] == pytest.approx(losses, rel=2e-3), case
    for model, rule in CASES:
        config = toys.training(optimizer=rule, average=AverageConfig(decay=0.5))
        after = []
        for ranks in ("1", "2"):
            state = toys.state(config, MODELS[model])
            checkpoint.resume(tmp_path / ranks / model / rule, state, True, lambda path, fault: None)
            after += steps(state, STEPS, 1)
        assert after[1] == pytest.approx(after[0], rel=2e-3), (model, rule)
