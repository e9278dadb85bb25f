"""A Hugging Face config.json -> the decoder it describes, or a refusal that names the key in the way.

Each key is one of: part of the description, a promise that must have the one value this decoder computes, or of no
effect on the logits. Anything else is refused: a key that is ignored silently may change every logit.
Invariant: data never chooses code; `auto_map` and its like are refused, nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import RecipeError
from groundup.export.weights import fault
from groundup.models import DecoderConfig

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
REMOTE_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
PROMISES: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
    "pretraining_tp": (1, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "quantization_config": (None,),
}
"""Keys that change the logits unless they have one of these values."""
NO_EFFECT = frozenset(
    {"architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "name_or_path"}
    | {"_model_name_or_path"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "tokenizer_class", "prefix"}
    | {"use_cache", "initializer_range", "attention_dropout", "sliding_window", "max_window_layers", "is_decoder"}
    | {"return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "id2label", "label2id"}
    | {"problem_type", "finetuning_task", "task_specific_params", "cross_attention_hidden_size"}
)
"""Keys that leave the logits as they are (dropout and such matter in training only)."""
DESCRIPTION = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"}
    | {"vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_theta", "rope_parameters"}
    | {"layer_types"}
)
FIRST_LLAMA_THETA = 10_000.0
"""Base of the rotary angles where the file, as those of the first Llama models, does not say."""


def read_architecture(values: Mapping[str, Any], where: Path) -> tuple[DecoderConfig, int]:
    """The decoder and its vocabulary size. Raises ModelFileError naming the key that is missing, wrong or unknown."""
    refuse_remote_code(values, where)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise fault(
            where, f"model_type {str(kind)[:30]!r} is not known; use a model of type {', '.join(ARCHITECTURES)} or bert"
        )
    named = values.get("architectures") or [ARCHITECTURES[kind]]
    if named != [ARCHITECTURES[kind]]:
        raise fault(where, f"architectures {str(named)[:40]} is not ['{ARCHITECTURES[kind]}']; use a language model")
    _check_promises(values, where)
    try:
        decoder = config.build(DecoderConfig, _description(values, kind, where), where.name)
    except RecipeError as error:
        finding = re.sub(r"^.*?faults?: (recipe: )?", "", error.message).partition(', got {"')[0]
        raise fault(where, f"{finding[:110]}; copy the model again") from None
    return decoder, _vocab_size(values, where)


def refuse_remote_code(values: Mapping[str, Any], where: Path) -> None:
    """Raise ModelFileError when a config.json asks for code of its own."""
    for key in REMOTE_CODE:
        if values.get(key):
            raise fault(
                where, f"'{key}' asks for code that comes with the model, which is never run; use a plain model"
            )


def _check_promises(values: Mapping[str, Any], where: Path) -> None:
    for key, allowed in PROMISES.items():
        if key in values and values[key] not in allowed:
            raise fault(
                where, f"{key} = {str(values[key])[:30]!r} is not supported, only {allowed[0]!r}; use another model"
            )
    kinds = values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise fault(where, f"layer_types {str(kinds)[:40]} are not supported, only 'full_attention'; use another model")
    known = DESCRIPTION | NO_EFFECT | PROMISES.keys() | set(REMOTE_CODE)
    for key, value in values.items():
        if key not in known and value not in (None, False, [], {}):
            raise fault(
                where, f"unknown key {key[:50]!r} may change the logits, so it is refused; remove it if it does not"
            )


def _description(values: Mapping[str, Any], kind: str, where: Path) -> dict[str, Any]:
    """The fields of `DecoderConfig`, with transformers' rules for what may be left out."""

    def required(key: str) -> Any:
        if values.get(key) is None:
            raise fault(where, f"no '{key}', so the model's shape is not known; copy the model again")
        return values[key]

    qwen = kind == "qwen3"
    num_heads, hidden_size = required("num_attention_heads"), required("hidden_size")
    head_dim = required("head_dim") if qwen else values.get("head_dim")
    if all(type(size) is int for size in (num_heads, hidden_size, head_dim)) and head_dim * num_heads == hidden_size:
        head_dim = None
    return {
        "context_length": required("max_position_embeddings"),
        "num_layers": required("num_hidden_layers"),
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "num_kv_heads": required("num_key_value_heads") if qwen else values.get("num_key_value_heads") or num_heads,
        "head_dim": head_dim,
        "ffn_size": required("intermediate_size"),
        "qk_norm": qwen,
        "tied": values.get("tie_word_embeddings", False),
        "rope_theta": _rope_theta(values, where),
        "norm_epsilon": required("rms_norm_eps"),
    }


def _rope_theta(values: Mapping[str, Any], where: Path) -> Any:
    """Base of the rotary angles: `rope_parameters.rope_theta` (transformers 5) or `rope_theta` (before)."""
    rope = values.get("rope_parameters") or {}
    plain = isinstance(rope, dict) and rope.get("rope_type", "default") == "default"
    if not plain or rope.keys() - {"rope_type", "rope_theta"}:
        raise fault(
            where, f"rope_parameters {str(rope)[:50]} are not supported, only rope_type 'default'; use another model"
        )
    theta = rope.get("rope_theta", values.get("rope_theta", FIRST_LLAMA_THETA))
    if theta != values.get("rope_theta", theta):
        raise fault(where, f"two values of rope_theta, {theta} and {values['rope_theta']}; export the model again")
    return theta


def _vocab_size(values: Mapping[str, Any], where: Path) -> int:
    size = values.get("vocab_size")
    if type(size) is not int or size < 1:
        raise fault(where, f"vocab_size {str(size)[:20]} is no positive number; copy the model again")
    return size
