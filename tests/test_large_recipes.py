"""The recipes that no test can run: one step of each, simulated on ranks that are not there."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from groundup.parallel import ParallelConfig
from groundup.parallel.fake import fake_world
from groundup.pipeline import load_recipe
from groundup.tokens import Batch
from groundup.train.layout import rows_per_micro_batch
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RECIPES = Path(__file__).parents[1] / "recipes"
PARAMETERS = {"decoder-125m": 126e6, "decoder-1b": 1.08e9, "decoder-7b": 6.74e9}
RANKS = 8


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        ("decoder-125m", ParallelConfig()),
        pytest.param("decoder-1b", ParallelConfig(), marks=pytest.mark.slow),
        ("decoder-7b", ParallelConfig()),
        ("decoder-7b", ParallelConfig(tensor=4)),
    ],
)
def test_a_step_of_a_large_recipe_is_simulated(name: str, parallel: ParallelConfig) -> None:
    words = ["runtime.device=cpu", "runtime.compile=off", f"runtime.parallel.tensor={parallel.tensor}"]
    recipe = load_recipe(RECIPES / f"{name}.yaml", words)
    model, training, vocab_size = recipe.model, recipe.pretrain, recipe.tokenizer.vocab_size
    assert model.num_parameters(vocab_size) == pytest.approx(PARAMETERS[name], rel=0.01)
    assert training.tokens / model.num_parameters(vocab_size) == pytest.approx(20, rel=0.1)
    rows = rows_per_micro_batch(recipe.runtime, model.context_length, RANKS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with fake_world(RANKS * parallel.ranks_of_a_row, parallel) as mesh:
        state = build_state(
            model, vocab_size, training, recipe.runtime, recipe.seed, device=torch.device("cpu"), mesh=mesh
        )
        tokens = torch.zeros(rows, model.context_length, dtype=torch.int64)
        places = torch.zeros_like(tokens, dtype=torch.int32)
        batch = Batch(tokens, tokens, places, places, torch.zeros(rows, dtype=torch.int64))
        objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
        result = train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == ()
    assert state.step == 1
    grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kilobytes < 1_000_000
