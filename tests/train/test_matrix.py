"""Every model, objective and optimizer together: a step under fakes, a loss that falls, a resume to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from groundup.errors import RecipeError
from groundup.parallel.fake import fake_world
from groundup.train import checkpoint
from groundup.train.state import TrainState
from groundup.train.step import train_step
from tests.train import toys
from tests.train.kinds import CASES

STEPS = 16
UNSCALED = ("sgd", "named")
"""Optimizers whose rates are not known to carry over to a larger model."""
PAIRS = [
    (case, optimizer)
    for case in CASES
    for optimizer in toys.RULES
    if not (case.startswith("scaled") and optimizer in UNSCALED)
]
USUAL = ("muon", "adamw")


def few(pairs: list[tuple[str, str]]) -> list[object]:
    """All pairs; those that neither a usual optimizer nor the first decoder is part of only on request."""
    return [
        pair
        if pair[1] in USUAL or pair[0] in ("qwen3: mixture", "encoder: masked")
        else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in pairs
    ]


@pytest.mark.parametrize(("case", "optimizer"), few(PAIRS))
def test_a_step_runs_under_fake_tensors(case: str, optimizer: str) -> None:
    ranks = 1 if optimizer == "adamw_8bit" else CASES[case].most_ranks
    config = toys.training(1, optimizer)
    data = CASES[case].mixture().batch(0, 0, 8 // ranks)
    with fake_world(ranks) as mesh, torch.compiler.set_stance("force_eager"):
        state = CASES[case].state(config, mesh=mesh if ranks > 1 else None)
        result = train_step(state, [data], CASES[case].objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == ()
    assert state.step == 1


@pytest.mark.parametrize(("case", "optimizer"), few(PAIRS))
def test_the_loss_falls_and_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, case: str, optimizer: str) -> None:
    chosen, config = CASES[case], toys.training(STEPS, optimizer)
    data = chosen.mixture()
    pace = (0.03 if optimizer == "sgd" else 0.3) if case.startswith("labeller") else 1.0

    def step(state: TrainState, number: int) -> float:
        batch = data.batch(number, 0, 8)
        done = train_step(state, [batch], chosen.objectives, learning_rate_factor=pace, max_grad_norm=1.0)
        return float(done.loss)

    with torch.compiler.set_stance("force_eager"):  # torchao compiles its step, seconds for each shape
        whole = chosen.state(config)
        losses = []
        for number in range(STEPS):
            losses.append(step(whole, number))
            if number == 2:
                checkpoint.save(tmp_path, whole, {}, keep=1)
        parts = chosen.state(config)
        assert checkpoint.resume(tmp_path, parts, False, lambda path, fault: None) is not None
        for number in range(3, STEPS):
            assert step(parts, number) == losses[number]
        assert toys.equal_states(whole, parts)
        assert step(whole, 0) < 0.995 * losses[0]


@pytest.mark.parametrize("optimizer", UNSCALED)
def test_rates_that_do_not_carry_over_are_refused(optimizer: str) -> None:
    with pytest.raises(RecipeError, match=f"optimizer.kind: {optimizer} with model.scaling"):
        CASES["scaled: next token"].state(toys.training(1, optimizer))
