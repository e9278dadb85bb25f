"""Generation by families that the packed weights do not know: the tokens that the whole forward gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groundup.inference import GenerateConfig, generate_batch
from groundup.inference.serving import serving_form
from groundup.models import Decoder, DecoderConfig, build_model

SIZES = {"context_length": 48, "num_layers": 2, "hidden_size": 24, "num_heads": 3, "num_kv_heads": 3, "ffn_size": 40}
CLASSIC = {"qk_norm": False, "norm": "layer", "gated": False, "attention_bias": "all", "ffn_bias": True}
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {"qk_norm": False, "sliding_window": 5},
    "qwen2": {"qk_norm": False, "attention_bias": "qkv", "sliding_window": 6, "full_attention_layers": (1,)},
    "gpt2": {**CLASSIC, "positions": "learned", "activation": "gelu_tanh", "tied": True},
    "classic": {**CLASSIC, "positions": "sinusoidal", "norm_placement": "after", "scale_embedding": True},
}


def make(family: str) -> Decoder:
    model = build_model(DecoderConfig(**{**SIZES, **FAMILIES[family]}), 90)
    model.initialise(3)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
    return model.eval().requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_has_the_tokens_of_the_whole_forward(family: str) -> None:
    model = make(family)
    assert isinstance(serving_form(model), Decoder)
    prompts = [[7, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 80]]
    answers = generate_batch(model, prompts, GenerateConfig(max_new_tokens=15, temperature=0.0), set())
    for prompt, answer in zip(prompts, answers):
        tokens = list(prompt)
        for _ in range(15):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        assert answer == tokens[len(prompt) :]


def test_bfloat16_keeps_what_is_exact() -> None:
    """Matrices are cast once; norms and biases stay as they are."""
    model = make("gpt2")
    model.set_compute_dtype(torch.bfloat16)
    form = serving_form(model)
    assert isinstance(form, Decoder)
    dtypes = {name: parameter.dtype for name, parameter in form.named_parameters()}
    assert all((dtype == torch.float32) == (model.role(name) == "vector") for name, dtype in dtypes.items())


def test_learned_positions_end_where_the_table_ends() -> None:
    with pytest.raises(ValueError, match="49 tokens: the model has learned 48 positions"):
        make("gpt2")(torch.zeros(1, 49, dtype=torch.int64))
