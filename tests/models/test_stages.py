"""A model cut into stages computes what it computed whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.errors import RecipeError
from groundup.models import DecoderConfig, LSTMConfig, RowContext, build_model
from groundup.models.decoder import Decoder
from groundup.models.noise import row_keys
from groundup.models.stages import Stage, divide

CONFIG = DecoderConfig(
    context_length=8, num_layers=3, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=24, residual_dropout=0.2
)
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "tied": {"tied": True, "stochastic_depth": 0.3},
    "gpt2": {"positions": "learned", "norm": "layer", "gated": False, "attention_bias": "all", "ffn_bias": True},
    "classic": {"positions": "sinusoidal", "norm": "layer", "norm_placement": "after", "embedding_dropout": 0.1},
}
VOCAB = 32


def model_of(config: DecoderConfig, parts: list[range] | None = None) -> tuple[Decoder, list[Stage]]:
    with torch.device("meta"):
        model = build_model(config, VOCAB)
    assert isinstance(model, Decoder)
    stages = [stage for stage in divide(model, parts or []) if isinstance(stage, Stage)] if parts else []
    model.to_empty(device="cpu")
    model.initialise(1)
    return model, stages


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_behind_each_other_are_the_whole_model(family: str) -> None:
    config = CONFIG.model_copy(update=FAMILIES[family])
    whole, _ = model_of(config)
    first, one = model_of(config, [range(1), range(2, 3)])  # two stages of one rank, with another's between them
    second, other = model_of(config, [range(1, 2)])
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCAB, (4, 8), generator=random)
    segments, positions = torch.zeros(4, 8, dtype=torch.int32), torch.arange(8, dtype=torch.int32).expand(4, 8)
    keys, weights = row_keys(1, 2, torch.arange(4)), torch.rand(4, generator=random)
    sums, counts = whole(tokens, tokens, segments, positions, weights, RowContext(keys))
    x: Any = tokens
    for stage in (one[0], other[0]):
        x = stage(x, segments, positions, keys)
    found, counted = one[1](x, segments, positions, keys, tokens, weights)
    assert torch.equal(found, sums) and torch.equal(counted, counts)
    for loss in (sums, found):
        (loss * weights).sum().backward()
    names = {name: p.grad for name, p in whole.named_parameters()}
    for part in (first, second):
        for name, parameter in part.named_parameters():
            assert isinstance(names[name], Tensor) and torch.equal(names[name], parameter.grad), name
    assert {name for name, _ in first.named_parameters()} == second.elsewhere
    assert first.elsewhere == {name for name, _ in second.named_parameters()} == {n for n in names if "layers.1." in n}
    for stage, rows in ((one[0], 2), (one[1], 3)):
        example = stage.example_input(rows, 8)
        assert example.shape == ((rows, 8) if stage.is_first else (rows, 8, 16))


def test_both_ends_keep_a_tied_table() -> None:
    config = CONFIG.model_copy(update={"tied": True})
    first, _ = model_of(config, [range(2)])
    last, _ = model_of(config, [range(2, 3)])
    assert first.shared == last.shared == {"embedding.weight"}
    assert torch.equal(first.embedding.weight, last.embedding.weight)
    assert "embedding.weight" not in first.elsewhere | last.elsewhere


def test_a_model_without_stages_is_refused_by_name() -> None:
    with torch.device("meta"):
        model = build_model(LSTMConfig(context_length=8, num_layers=2, hidden_size=16), VOCAB)
    with pytest.raises(RecipeError, match="kind lstm has no stages"):
        divide(model, [range(1)])
