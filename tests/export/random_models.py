"""Random small configs of transformers' decoders, as people's files have them: sizes, options and keys left out."""

from __future__ import annotations

import random
from typing import Any

SCALINGS: tuple[dict[str, Any], ...] = (
    {"rope_type": "linear", "factor": 3.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12},
    {
        "rope_type": "yarn",
        "factor": 2.5,
        "original_max_position_embeddings": 8,
        "beta_fast": 20.0,
        "beta_slow": 2.0,
        "attention_factor": 0.9,
        "truncate": False,
    },
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
)
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "xglm", "opt")
VOCAB = 47


def random_values(family: str, seed: int) -> dict[str, Any]:
    """A config.json of `family`; every second seed stretches the rotary positions, if it has any."""
    draw = random.Random(f"{family}/{seed}")
    kv_heads = draw.choice([1, 2, 3, 5])
    heads = kv_heads * (draw.choice([1, 2, 3]) if family in ("llama", "mistral", "qwen2", "qwen3") else 1)
    head_dim = draw.choice([4, 6, 10])
    hidden, layers, context = heads * head_dim, draw.choice([1, 2, 3]), draw.choice([24, 40])
    tied = draw.random() < 0.5
    common = {"vocab_size": VOCAB, "tie_word_embeddings": tied, "model_type": family}
    activation = draw.choice(["gelu", "gelu_new", "relu", "silu", "tanh", "quick_gelu"])
    if family == "gpt2":
        sizes = {"n_positions": context, "n_embd": hidden, "n_layer": layers, "n_head": heads}
        inner = {"n_inner": draw.choice([None, 33])}
        return {**common, **sizes, **inner, "activation_function": activation, "layer_norm_epsilon": 1e-6}
    if family == "xglm":
        sizes = {"d_model": hidden, "num_layers": layers, "attention_heads": heads, "ffn_dim": 35}
        options = {"scale_embedding": draw.random() < 0.5, "activation_function": activation, "pad_token_id": None}
        return {**common, **sizes, **options, "max_position_embeddings": context}
    if family == "opt":
        sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "ffn_dim": 35}
        options = {"do_layer_norm_before": seed % 2 == 0, "enable_bias": draw.random() < 0.7}
        return {**common, **sizes, **options, "activation_function": activation, "max_position_embeddings": context}
    return {**common, **_of_llamas_kin(family, seed, draw, hidden, heads, kv_heads, head_dim, layers, context)}


def _of_llamas_kin(
    family: str,
    seed: int,
    draw: random.Random,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    layers: int,
    context: int,
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": draw.choice([17, 40]),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": context,
        "rms_norm_eps": draw.choice([1e-5, 1e-6]),
        "hidden_act": draw.choice(["silu", "silu", "gelu_pytorch_tanh", "relu"]),
    }
    scaling = SCALINGS[(seed // 2) % len(SCALINGS)] if seed % 2 else {"rope_type": "default"}
    values["rope_parameters"] = {**scaling, "rope_theta": draw.choice([10_000.0, 500_000.0])}
    if family in ("mistral", "qwen3") or draw.random() < 0.4:
        values["head_dim"] = head_dim + draw.choice([0, 2])
    if family == "llama":
        values |= {"attention_bias": draw.random() < 0.5, "mlp_bias": draw.random() < 0.5}
    if family == "mistral":
        values["sliding_window"] = draw.choice([None, 5, 9, 4096])
    if family in ("qwen2", "qwen3"):
        windows = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": draw.choice([0, 1])}
        values |= windows if draw.random() < 0.6 else {"use_sliding_window": False}
    if family == "qwen3":
        values["attention_bias"] = draw.random() < 0.5
    return values
