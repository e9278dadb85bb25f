"""Small configs of classes of transformers that have no layout of ours: many shapes of one thing."""

from __future__ import annotations

from typing import Any

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
"""Of mixtures of experts in groups, behind one layer without."""
CLASSES: dict[str, dict[str, Any]] = {
    "gpt_neox": {**SIZES, "rotary_pct": 0.5},
    "phi": {**SIZES, "partial_rotary_factor": 0.5},
    "gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 6},
    "falcon": {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2},
    "olmo2": GROUPED,
    "granite": {**GROUPED, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "stablelm": GROUPED,
    "starcoder2": {**GROUPED, "sliding_window": 6},
    "cohere": {**GROUPED, "logit_scale": 0.25},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 6,
        "max_position_embeddings": 64,
    },
    "smollm3": GROUPED,
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        **GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
    },
    "deepseek_v3": {
        **SIZES,
        "num_key_value_heads": 4,
        **EXPERTS,
        "q_lora_rank": 12,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 8,
    },
    "glm4_moe": {**GROUPED, **EXPERTS, "head_dim": 8},
}
"""By model_type: values of config.json."""
BIASED = ("deepseek_v3", "glm4_moe")
"""Of them those that choose experts by a bias beside the weights."""
VOCAB = 64


def values_of(model_type: str) -> dict[str, Any]:
    """The values that a config of ours holds."""
    return {"model_type": model_type, **CLASSES[model_type]}
