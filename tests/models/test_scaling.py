"""A larger copy of a base model: its starting values, what it says of its growth, what it refuses, and its export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from groundup.models import Decoder, DecoderConfig, build_model, huggingface_config, layout_of
from groundup.models.scaling import Growth

BASE = {"base_hidden_size": 32, "base_num_layers": 2, "base_num_heads": 2}
BIASED = {"norm": "layer", "attention_bias": "all", "ffn_bias": True, "gated": False, "qk_norm": False}


def config(width: int = 128, layers: int = 6, **changes: Any) -> DecoderConfig:
    sizes = {"context_length": 16, "num_layers": layers, "hidden_size": width, "ffn_size": 2 * width}
    heads = {"num_heads": width // 16, "num_kv_heads": width // 32}
    return DecoderConfig(**{**sizes, **heads, "scaling": BASE, **changes})


def built(made: DecoderConfig) -> Decoder:
    model = build_model(made, 96)
    model.initialise(1)
    assert isinstance(model, Decoder)
    return model


def test_growth_is_of_matrices_the_output_and_the_ends_of_branches() -> None:
    model = built(config(**BIASED))
    found = {name: model.growth(name) for name, _ in model.named_parameters()}
    assert found["embedding.weight"] == found["layers.0.ffn.up.bias"] == found["norm.weight"] == Growth(1, 1)
    assert found["layers.3.attention.query.weight"] == found["layers.3.ffn.up.weight"] == Growth(4, 1)
    assert found["layers.3.attention.output.weight"] == found["layers.0.ffn.down.weight"] == Growth(4, 3)
    assert found["layers.3.attention.output.bias"] == Growth(1, 3)
    assert found["head.weight"] == Growth(4, 1)
    assert all(model.growth(name) == Growth() for model in [built(config(scaling=None))] for name in found)


@pytest.mark.parametrize("init_std", [None, 0.05])
def test_starting_values_follow_the_growth(init_std: float | None) -> None:
    base, large = built(config(32, 2, init_std=init_std)), built(config(init_std=init_std))

    def shrunk(name: str) -> float:
        return float((base.get_parameter(name).std() / large.get_parameter(name).std()).detach())

    assert shrunk("embedding.weight") == pytest.approx(1, rel=0.1)
    assert shrunk("layers.0.ffn.up.weight") == pytest.approx(2, rel=0.1)
    assert shrunk("layers.0.ffn.down.weight") == pytest.approx(2 * 3, rel=0.1)
    assert shrunk("head.weight") == pytest.approx(4, rel=0.1)


def test_the_base_model_is_as_without() -> None:
    base, plain = built(config(32, 2)), built(config(32, 2, scaling=None))
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name))
        assert base.growth(name) == Growth()


def test_nothing_of_it_is_left_at_export() -> None:
    scaled, plain = config(), config(scaling=None)
    assert layout_of(scaled) is layout_of(plain)
    assert huggingface_config(scaled, 96) == huggingface_config(plain, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tied": True}, "tied: false"),
        ({"scale_embedding": True}, "scale_embedding: false"),
        ({"num_heads": 4, "num_kv_heads": 2}, "hidden_size 128 needs num_heads 8, not 4"),
        ({"norm_placement": "after"}, "num_layers: 2"),
        ({"scaling": {**BASE, "base_num_layers": 0}}, "base_num_layers"),
        ({"scaling": {"base_hidden_size": 32}}, "base_num_heads"),
    ],
)
def test_what_no_rule_is_known_for_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
    config(layers=2, norm_placement="after")
