"""The table of a model's parts adds up, and says how."""

from __future__ import annotations

import math
from typing import Any

import pytest

from groundup.models import DecoderConfig, EncoderConfig, LSTMConfig, model_anatomy

SIZES = {"context_length": 64, "num_layers": 3, "hidden_size": 24, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 40}
CLASSIC = {"qk_norm": False, "norm": "layer", "gated": False, "attention_bias": "all", "ffn_bias": True}


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"tied": True, "qk_norm": False, "attention_bias": "qkv"},
        {"sliding_window": 16, "full_attention_layers": (1,)},
        {**CLASSIC, "positions": "learned", "tied": True},
        {**CLASSIC, "positions": "sinusoidal", "norm_placement": "after"},
    ],
)
def test_the_rows_add_up(switches: dict[str, Any]) -> None:
    config = DecoderConfig(**{**SIZES, **switches})
    table = model_anatomy(config, 50)
    assert table.parameters == config.num_parameters(50)
    assert table.flops_per_token == config.flops_per_token(50)
    for part in table.parts:
        if part.parameters:
            assert part.parameters == math.prod(part.shape) * part.count
            assert math.prod(int(number) for number in part.how.split(" x ")) == part.parameters
    assert table.as_dict()["parameters"] == table.parameters


@pytest.mark.parametrize(
    "switches", [{}, {"next_sentence": True, "tied": False}, {"context_length": 67, "predicted_share": 0.31}]
)
def test_the_rows_of_an_encoder_add_up(switches: dict[str, Any]) -> None:
    sizes = {"context_length": 64, "num_layers": 3, "hidden_size": 24, "num_heads": 4, "ffn_size": 40}
    config = EncoderConfig(kind="encoder", **{**sizes, **switches})
    table = model_anatomy(config, 50)
    assert table.parameters == config.num_parameters(50)
    assert table.flops_per_token == config.flops_per_token(50)
    assert table.cache_bytes_per_token == 0


def test_an_encoder_pays_for_what_it_predicts_and_for_attention_to_all() -> None:
    config = EncoderConfig(
        kind="encoder", context_length=100, num_layers=2, hidden_size=32, num_heads=2, ffn_size=64, predicted_share=0.25
    )  # fmt: skip
    always, at_targets = (4 + 3) * 32**2 + 2 * 32 * 64, 32**2 + 2 * 32 * 64 + 32**2 + 50 * 32
    assert config.flops_per_token(50) == 6 * (always + at_targets / 4) + 2 * 12 * 32 * 100


def test_a_giant_costs_nothing_and_reads_well() -> None:
    giant = DecoderConfig(
        context_length=8192, num_layers=126, hidden_size=16384, num_heads=128, num_kv_heads=8, ffn_size=53248,
        qk_norm=False,
    )  # fmt: skip
    lines = model_anatomy(giant, 128_256).lines()
    assert any(line.startswith("layers.0-125.ffn.gate.weight") and "126 x [53248, 16384]" in line for line in lines)
    assert max(map(len, lines)) <= 102, "100 columns, but for the largest there are"
    assert any(line.startswith("all") and "405,853,388,800" in line for line in lines)


@pytest.mark.parametrize("tied", [False, True])
def test_a_recurrent_model_keeps_states_however_long_the_text(tied: bool) -> None:
    config = LSTMConfig(context_length=64, num_layers=2, hidden_size=24, tied=tied)
    table = model_anatomy(config, 50)
    assert (table.parameters, table.flops_per_token) == (config.num_parameters(50), config.flops_per_token(50))
    assert table.lines()[-1] == "Generation keeps 192 B of states (bfloat16), however long the text."
