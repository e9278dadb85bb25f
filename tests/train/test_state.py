"""State: the same start everywhere, and clear words when a batch or weights do not fit."""

from __future__ import annotations

import pytest
import torch

from groundup.errors import ModelFileError, RecipeError
from groundup.train.state import ExecutionConfig, check_batch, rows_per_micro_batch
from tests.train import toys


def test_start_depends_on_the_seed_only() -> None:
    assert toys.equal_states(toys.state(), toys.state())


def test_start_weights_are_taken_whole() -> None:
    weights = {name: torch.randn_like(p) for name, p in toys.state().model.named_parameters()}
    state = toys.state(start=weights)
    assert all(torch.equal(p, weights[name]) for name, p in state.model.named_parameters())


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    weights = {name: p.detach().clone() for name, p in toys.state().model.named_parameters()}
    weights["norm.weight"] = torch.zeros(3)
    with pytest.raises(ModelFileError, match=r"norm\.weight: weights have shape \[3\], the model \[16\]"):
        toys.state(start=weights)
    del weights["norm.weight"]
    with pytest.raises(ModelFileError, match=r"missing \['norm\.weight'\]"):
        toys.state(start=weights)


def test_a_batch_must_give_every_rank_whole_rows() -> None:
    check_batch(context_length=16, global_batch_tokens=64, world_size=4)
    with pytest.raises(RecipeError, match="use 64"):
        check_batch(context_length=16, global_batch_tokens=100, world_size=4)


@pytest.mark.parametrize(("asked", "rows", "expected"), [(0, 32, 32), (0, 1000, 500), (5, 32, 4), (100, 6, 6)])
def test_micro_batches_divide_the_ranks_rows(asked: int, rows: int, expected: int) -> None:
    assert rows_per_micro_batch(ExecutionConfig(micro_batch_rows=asked), 16, rows) == expected
