"""An encoder that looks at neighbours from its first step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundup.models import EncoderConfig, build_model
from groundup.models.encoder_start import position_waves

CONFIG = EncoderConfig(
    kind="encoder", context_length=64, num_layers=2, hidden_size=96, num_heads=3, ffn_size=96,
    attention_start="neighbours", predicted_share=0.2,
)  # fmt: skip


@pytest.mark.parametrize("layer", [0, 1])
def test_two_heads_look_at_neighbours_the_others_anywhere(layer: int) -> None:
    model = build_model(CONFIG, 50)
    model.initialise(1)
    seen: list[Tensor] = []

    def scores(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x, layer_of = inputs[0], module.attention
        query, key = (each(x).unflatten(-1, (3, 32)).transpose(1, 2) for each in (layer_of.query, layer_of.key))
        seen.append(torch.softmax(query @ key.transpose(-1, -2) / 32**0.5, dim=-1))

    model.layers[layer].register_forward_pre_hook(scores)
    model(torch.randint(0, 50, (4, 64), generator=torch.Generator().manual_seed(2)))
    inner, shift = torch.arange(8, 56), layer + 1
    for head, direction in ((0, -shift), (1, shift)):
        at_neighbour = seen[0][:, head, inner, inner + direction]
        assert at_neighbour.mean() > 10 / 64, "many times what an even look would give"
        assert (seen[0][:, head, inner].argmax(-1) == inner + direction).float().mean() > 0.8
    assert seen[0][:, 2].max() < 5 / 64


def test_no_two_positions_look_alike() -> None:
    waves = position_waves(64, 96, 1.0)
    likeness = waves @ waves.T / waves.square().sum(1)
    assert (likeness - torch.eye(64)).abs().max() < 0.35


def test_a_model_of_one_narrow_head_starts_too() -> None:
    small = CONFIG.model_copy(update={"num_heads": 1, "hidden_size": 10, "num_layers": 1})
    model = build_model(small, 20)
    model.initialise(1)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
