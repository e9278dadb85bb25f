"""Context parallel on ranks that are not there: a large recipe at a long context, and what it keeps for the backward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from groundup.parallel import ParallelConfig
from groundup.parallel.fake import fake_world
from groundup.pipeline import load_recipe
from groundup.tokens import Batch
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RECIPE = Path(__file__).parents[2] / "recipes" / "decoder-7b.yaml"
LONG = 32_768
LAYERS = 2
"""Of 32, which are all alike: each is hundreds of simulated operations."""


def kept_bytes(config: ParallelConfig, world_size: int) -> int:
    """Bytes that a step on one row of the recipe at a long context keeps for its backward on rank 0."""
    parallel = {f"runtime.parallel.{name}": value for name, value in config.model_dump().items()}
    words = {
        "model.context_length": LONG, "model.num_layers": LAYERS, "model.scaling.base_num_layers": LAYERS,
        "runtime.device": "cpu", "runtime.compile": "off", "runtime.recompute": "false", **parallel,
    }  # fmt: skip
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in words.items()])
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor) and not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
        return tensor

    with fake_world(world_size, config) as mesh:
        state = build_state(
            recipe.model,
            recipe.tokenizer.vocab_size,
            recipe.pretrain,
            recipe.runtime,
            recipe.seed,
            device=torch.device("cpu"),
            mesh=mesh,
        )
        tokens = torch.zeros(1, LONG, dtype=torch.int64)
        places = torch.zeros_like(tokens, dtype=torch.int32)
        batch = Batch(tokens, tokens, places, places, torch.zeros(1, dtype=torch.int64))
        objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == () and state.step == 1
    return sum(seen.values())


@pytest.mark.parametrize("way", ["gather", "ring"])
def test_two_ranks_of_a_long_row_keep_half_of_it_each(way: str) -> None:
    alone = kept_bytes(ParallelConfig(), 4)
    shared = kept_bytes(ParallelConfig(context=2, context_attention=way), 8)
    print(way, alone, shared, shared / alone)
    assert 0.4 < shared / alone < 0.6
