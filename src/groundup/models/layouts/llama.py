"""Llama and its kin: rotary positions, rms norms first, gated feed-forward; Mistral, Qwen2 and Qwen3.

    llama    attention_bias and mlp_bias as one likes        qwen2    biases of q, k, v; windows by layer
    mistral  one sliding window for all layers               qwen3    norms of q and k; windows by layer

Invariant: what transformers assumes where a key is missing is assumed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groundup.errors import ModelFileError
from groundup.models.activations import HUGGINGFACE_NAMES
from groundup.models.decoder_config import DecoderConfig
from groundup.models.layouts.decoders import decoder_layout
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.layouts.rope import read_rope, write_rope

_INNER: Mapping[str, str] = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}
_SWITCHES: Mapping[str, tuple[Any, ...]] = {
    "positions": ("rope",),
    "norm": ("rms",),
    "norm_placement": ("before",),
    "gated": (True,),
}


def _parts(config: DecoderConfig) -> dict[str, Part]:
    parts = {"model.embed_tokens.weight": Part(("embedding.weight",))}
    names = [(ours, theirs) for ours, theirs in _INNER.items() if config.qk_norm or not ours.endswith(("y_norm",))]
    with_bias = {
        "none": (),
        "qkv": ("attention.query", "attention.key", "attention.value"),
        "all": ("attention.query", "attention.key", "attention.value", "attention.output"),
    }[config.attention_bias] + (("ffn.gate", "ffn.up", "ffn.down") if config.ffn_bias else ())
    for layer in range(config.num_layers):
        for ours, theirs in names:
            for kind in ("weight", "bias") if ours in with_bias else ("weight",):
                parts[f"model.layers.{layer}.{theirs}.{kind}"] = Part((f"layers.{layer}.{ours}.{kind}",))
    parts["model.norm.weight"] = Part(("norm.weight",))
    if not config.tied:
        parts["lm_head.weight"] = Part(("head.weight",))
    return parts


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "hidden_act": HUGGINGFACE_NAMES[config.activation],
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        **write_rope(config),
        "tie_word_embeddings": config.tied,
        "attention_dropout": 0.0,
    }


def _read(values: ConfigValues, context_length: int, absent_kv_heads: int | None = None) -> dict[str, Any]:
    """The fields that all four have; the numbers are what transformers takes where a key is not there at all."""
    num_heads, hidden_size = values.required("num_attention_heads"), values.required("hidden_size")
    head_dim = values.get("head_dim")
    if all(type(size) is int for size in (num_heads, hidden_size, head_dim)) and head_dim * num_heads == hidden_size:
        head_dim = None
    num_kv_heads = values.get("num_key_value_heads", num_heads)
    if absent_kv_heads is not None and "num_key_value_heads" not in values.values:
        num_kv_heads = absent_kv_heads
    return {
        "context_length": values.get("max_position_embeddings", context_length),
        "num_layers": values.required("num_hidden_layers"),
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "ffn_size": values.required("intermediate_size"),
        "activation": values.activation("hidden_act", "silu"),
        "qk_norm": False,
        "tied": values.flag("tie_word_embeddings", False),
        "norm_epsilon": values.get("rms_norm_eps", 1e-6),
        **read_rope(values),
    }


def _bias(values: ConfigValues) -> str:
    return "all" if values.flag("attention_bias", False) else "none"


def _write_llama(config: DecoderConfig) -> dict[str, Any]:
    return {**_write(config), "attention_bias": config.attention_bias == "all", "mlp_bias": config.ffn_bias}


def _read_llama(values: ConfigValues) -> dict[str, Any]:
    values.promise("use_sliding_window", False)
    _no_layer_types(values)
    return {**_read(values, 2048), "attention_bias": _bias(values), "ffn_bias": values.flag("mlp_bias", False)}


def _no_layer_types(values: ConfigValues) -> None:
    kinds = values.get("layer_types", [])
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise ModelFileError(
            f"layer_types {str(kinds)[:40]} are not supported here, only 'full_attention'; use another model"
        )


def _llama_limits(config: DecoderConfig) -> list[str]:
    if config.hidden_size % config.num_heads:
        return [f"hidden_size: {config.hidden_size} that num_heads: {config.num_heads} does not divide"]
    return []


def _write_mistral(config: DecoderConfig) -> dict[str, Any]:
    return {**_write(config), "sliding_window": config.sliding_window}


def _read_mistral(values: ConfigValues) -> dict[str, Any]:
    values.promise("attention_bias", False)
    # A null here means no window; only where the key is missing is it transformers' default.
    window = values.get("sliding_window") if "sliding_window" in values.values else 4096
    kinds = values.get("layer_types", [])
    if not isinstance(kinds, list) or any(kind != "sliding_attention" for kind in kinds):
        # With kinds of layers in it, transformers reads the file as Ministral, whose full attention has no window.
        _no_layer_types(values)
        window = None
    return {**_read(values, 131_072, absent_kv_heads=8), "sliding_window": window}


def _write_windows(config: DecoderConfig) -> dict[str, Any]:
    """Windows by layer, as Qwen has them."""
    if config.sliding_window is None:
        return {"use_sliding_window": False}
    full = set(config.full_attention_layers)
    kinds = ["full_attention" if layer in full else "sliding_attention" for layer in range(config.num_layers)]
    return {"use_sliding_window": True, "sliding_window": config.sliding_window, "layer_types": kinds}


def _read_windows(values: ConfigValues, num_layers: Any) -> dict[str, Any]:
    used = values.flag("use_sliding_window", False)
    # A null here means no window; only where the key is missing is it transformers' default.
    window = values.get("sliding_window") if "sliding_window" in values.values else 4096
    first, kinds = values.get("max_window_layers", 28), values.get("layer_types")
    if type(num_layers) is not int or type(first) is not int:
        raise ModelFileError(f"max_window_layers {str(first)[:20]!r} is no number of layers; copy the model again")
    if kinds is None:
        # Cut, so that a damaged number of layers is refused by its own check and not by memory.
        layers = range(min(num_layers, len(_SANE)))
        slides = used and window is not None
        kinds = ["sliding_attention" if slides and layer >= first else "full_attention" for layer in layers]
    if not isinstance(kinds, list) or any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        raise ModelFileError(
            f"layer_types {str(kinds)[:40]} are not full_attention or sliding_attention; not supported"
        )
    if values.get("layer_types") is not None and len(kinds) != num_layers:
        raise ModelFileError(f"layer_types names {len(kinds)} layers, num_hidden_layers {num_layers}; export it again")
    full = tuple(layer for layer, kind in enumerate(kinds) if kind == "full_attention")
    if len(full) == len(kinds):
        return {}
    if not used:
        raise ModelFileError("layer_types has sliding_attention, but use_sliding_window is false; export it again")
    if window is None:
        raise ModelFileError("layer_types has sliding_attention, but sliding_window is null; export it again")
    return {"sliding_window": window, "full_attention_layers": full}


_SANE = range(10_000)
"""More layers than any model has."""


def _write_qwen2(config: DecoderConfig) -> dict[str, Any]:
    return {**_write(config), **_write_windows(config)}


def _read_qwen2(values: ConfigValues) -> dict[str, Any]:
    fields = _read(values, 32_768, absent_kv_heads=32)
    return {**fields, "attention_bias": "qkv", **_read_windows(values, fields["num_layers"])}


def _write_qwen3(config: DecoderConfig) -> dict[str, Any]:
    return {**_write(config), "attention_bias": config.attention_bias == "all", **_write_windows(config)}


def _read_qwen3(values: ConfigValues) -> dict[str, Any]:
    values.required("head_dim")
    fields = _read(values, 32_768, absent_kv_heads=32)
    bias, windows = _bias(values), _read_windows(values, fields["num_layers"])
    return {**fields, "qk_norm": True, "attention_bias": bias, **windows}


def _layout(
    model_type: str,
    architecture: str,
    write: Callable[[DecoderConfig], dict[str, Any]],
    read: Callable[[ConfigValues], dict[str, Any]],
    switches: Mapping[str, tuple[Any, ...]],
    limits: Callable[[DecoderConfig], list[str]] = lambda config: [],
) -> Layout:
    switches = {**_SWITCHES, **switches}
    buffers = (".rotary_emb.inv_freq",)
    return decoder_layout(model_type, architecture, "model.", _parts, write, read, switches, limits, buffers)


LLAMA = _layout(
    "llama",
    "LlamaForCausalLM",
    _write_llama,
    _read_llama,
    {"qk_norm": (False,), "attention_bias": ("none", "all"), "sliding_window": (None,)},
    _llama_limits,
)
MISTRAL = _layout(
    "mistral",
    "MistralForCausalLM",
    _write_mistral,
    _read_mistral,
    {"qk_norm": (False,), "attention_bias": ("none",), "ffn_bias": (False,), "full_attention_layers": ((),)},
)
QWEN2 = _layout(
    "qwen2",
    "Qwen2ForCausalLM",
    _write_qwen2,
    _read_qwen2,
    {"qk_norm": (False,), "attention_bias": ("qkv",), "ffn_bias": (False,)},
)
QWEN3 = _layout(
    "qwen3",
    "Qwen3ForCausalLM",
    _write_qwen3,
    _read_qwen3,
    {"qk_norm": (True,), "attention_bias": ("none", "all"), "ffn_bias": (False,)},
)
