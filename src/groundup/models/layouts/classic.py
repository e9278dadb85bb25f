"""Decoders with positions that are added: GPT-2 (learned), XGLM (fixed waves) and OPT (norms first or after).

    gpt2   learned, norms first, any epsilon; matrices turned, queries, keys and values in one
    xglm   fixed waves, norms first
    opt    learned, norms first or after; fixed waves are written as if they had been learned

Invariant: LayerNorm, two feed-forward matrices, all heads with keys of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundup.errors import ModelFileError
from groundup.models.activations import HUGGINGFACE_NAMES
from groundup.models.decoder_config import DecoderConfig
from groundup.models.layouts.decoders import decoder_layout, even_heads
from groundup.models.layouts.layout import ConfigValues, Part

TORCH_EPSILON = 1e-5
"""What is added to the variance by a LayerNorm whose layout does not say it."""
_SWITCHES: Mapping[str, tuple[Any, ...]] = {
    "norm": ("layer",),
    "gated": (False,),
    "qk_norm": (False,),
    "sliding_window": (None,),
}
_BIASED: Mapping[str, tuple[Any, ...]] = {"attention_bias": ("all",), "ffn_bias": (True,)}
_PROJECTIONS: Mapping[str, str] = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "ffn.up": "fc1",
    "ffn.down": "fc2",
}
_NORMS: Mapping[str, str] = {"attention_norm": "self_attn_layer_norm", "ffn_norm": "final_layer_norm"}
_BOTH = ("weight", "bias")


def _fields(
    values: ConfigValues, context: str, context_length: int, hidden: str, layers: str, heads: str
) -> dict[str, Any]:
    """What all three have, by the keys that each has for it; the number is what stands for a context not given."""
    values.promise("add_cross_attention", False)
    num_heads = values.required(heads)
    return {
        "context_length": values.get(context, context_length),
        "num_layers": values.required(layers),
        "hidden_size": values.required(hidden),
        "num_heads": num_heads,
        "num_kv_heads": num_heads,
        "norm": "layer",
        "gated": False,
        "qk_norm": False,
        "attention_bias": "all",
        "ffn_bias": True,
        "tied": values.flag("tie_word_embeddings", True),
    }


def _common(hidden: str, layers: str, heads: str) -> dict[str, str]:
    """By the keys that a class has for them: what transformers takes from a file as well."""
    return {hidden: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads"}


def _gpt2_parts(config: DecoderConfig) -> dict[str, Part]:
    parts = {
        "transformer.wte.weight": Part(("embedding.weight",)),
        "transformer.wpe.weight": Part(("positions.weight",)),
    }
    joined = ("attention.query", "attention.key", "attention.value")
    for layer in range(config.num_layers):
        ours, theirs = f"layers.{layer}", f"transformer.h.{layer}"
        for kind in _BOTH:
            turned = kind == "weight"
            parts |= {
                f"{theirs}.ln_1.{kind}": Part((f"{ours}.attention_norm.{kind}",)),
                f"{theirs}.attn.c_attn.{kind}": Part(tuple(f"{ours}.{name}.{kind}" for name in joined), turned),
                f"{theirs}.attn.c_proj.{kind}": Part((f"{ours}.attention.output.{kind}",), turned),
                f"{theirs}.ln_2.{kind}": Part((f"{ours}.ffn_norm.{kind}",)),
                f"{theirs}.mlp.c_fc.{kind}": Part((f"{ours}.ffn.up.{kind}",), turned),
                f"{theirs}.mlp.c_proj.{kind}": Part((f"{ours}.ffn.down.{kind}",), turned),
            }
    parts |= {f"transformer.ln_f.{kind}": Part((f"norm.{kind}",)) for kind in _BOTH}
    return parts | _head(config)


def _head(config: DecoderConfig) -> dict[str, Part]:
    return {} if config.tied else {"lm_head.weight": Part(("head.weight",))}


def _write_gpt2(config: DecoderConfig) -> dict[str, Any]:
    return {
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.ffn_size,
        "activation_function": HUGGINGFACE_NAMES[config.activation],
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    }


def _read_gpt2(values: ConfigValues) -> dict[str, Any]:
    values.common = {"n_positions": "max_position_embeddings", **_common("n_embd", "n_layer", "n_head")}
    values.promise("scale_attn_weights", True)
    values.promise("scale_attn_by_inverse_layer_idx", False)
    values.promise("reorder_and_upcast_attn", False, True)  # the same scores where all is float32
    fields = _fields(values, "n_positions", 1024, "n_embd", "n_layer", "n_head")
    values.promise("n_ctx", fields["context_length"])
    hidden = fields["hidden_size"]
    return {
        **fields,
        "positions": "learned",
        "ffn_size": values.get("n_inner", 4 * hidden if type(hidden) is int else hidden),
        "activation": values.activation("activation_function", "gelu_new"),
        "norm_epsilon": values.get("layer_norm_epsilon", TORCH_EPSILON),
    }


def _decoder_parts(config: DecoderConfig, body: str) -> dict[str, Part]:
    """The tensors of fairseq's decoders, as XGLM and OPT have them."""
    parts = {f"{body}.embed_tokens.weight": Part(("embedding.weight",))}
    kinds = _BOTH if config.ffn_bias else ("weight",)
    for layer in range(config.num_layers):
        ours, theirs = f"layers.{layer}", f"{body}.layers.{layer}"
        parts |= {
            f"{theirs}.{to}.{kind}": Part((f"{ours}.{name}.{kind}",))
            for name, to in _PROJECTIONS.items()
            for kind in kinds
        }
        parts |= {
            f"{theirs}.{to}.{kind}": Part((f"{ours}.{name}.{kind}",)) for name, to in _NORMS.items() for kind in _BOTH
        }
    return parts | _head(config)


def _fixed_epsilon(config: DecoderConfig) -> list[str]:
    wrong = config.norm_epsilon != TORCH_EPSILON
    return even_heads(config) + ([f"norm_epsilon: {config.norm_epsilon} instead of {TORCH_EPSILON}"] if wrong else [])


def _xglm_parts(config: DecoderConfig) -> dict[str, Part]:
    last = {f"model.layer_norm.{kind}": Part((f"norm.{kind}",)) for kind in _BOTH}
    return _decoder_parts(config, "model") | last


def _write_xglm(config: DecoderConfig) -> dict[str, Any]:
    return {
        "max_position_embeddings": config.context_length,
        "d_model": config.hidden_size,
        "ffn_dim": config.ffn_size,
        "num_layers": config.num_layers,
        "attention_heads": config.num_heads,
        "activation_function": HUGGINGFACE_NAMES[config.activation],
        "scale_embedding": config.scale_embedding,
        "tie_word_embeddings": config.tied,
        # A padding id of 2 or more would blank the wave of the position that has the same number.
        "pad_token_id": None,
    }


def _read_xglm(values: ConfigValues) -> dict[str, Any]:
    values.common = _common("d_model", "num_layers", "attention_heads")
    fields = _fields(values, "max_position_embeddings", 2048, "d_model", "num_layers", "attention_heads")
    padding, context = values.get("pad_token_id", 0), fields["context_length"]
    if type(padding) is not int or type(context) is not int or 2 <= padding < 2 + context:
        raise ModelFileError(
            f"pad_token_id {str(padding)[:20]} blanks the position of that number in this layout; use 0, 1 or none"
        )
    return {
        **fields,
        "positions": "sinusoidal",
        "ffn_size": values.required("ffn_dim"),
        "activation": values.activation("activation_function", "gelu"),
        "norm_epsilon": TORCH_EPSILON,
        "scale_embedding": values.flag("scale_embedding", True),
    }


def _opt_parts(config: DecoderConfig) -> dict[str, Part]:
    parts = _decoder_parts(config, "model.decoder")
    parts["model.decoder.embed_positions.weight"] = Part(("positions.weight",), spare_rows=2)
    if config.norm_placement == "before":
        parts |= {f"model.decoder.final_layer_norm.{kind}": Part((f"norm.{kind}",)) for kind in _BOTH}
    return parts


def _write_opt(config: DecoderConfig) -> dict[str, Any]:
    return {
        "max_position_embeddings": config.context_length,
        "hidden_size": config.hidden_size,
        "word_embed_proj_dim": config.hidden_size,
        "ffn_dim": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "activation_function": HUGGINGFACE_NAMES[config.activation],
        "do_layer_norm_before": config.norm_placement == "before",
        "enable_bias": config.ffn_bias,
        "layer_norm_elementwise_affine": True,
        "tie_word_embeddings": config.tied,
    }


def _read_opt(values: ConfigValues) -> dict[str, Any]:
    fields = _fields(values, "max_position_embeddings", 2048, "hidden_size", "num_hidden_layers", "num_attention_heads")
    values.promise("word_embed_proj_dim", fields["hidden_size"])
    values.promise("_remove_final_layer_norm", False)
    values.promise("layer_norm_elementwise_affine", True)
    biases = values.flag("enable_bias", True)
    return {
        **fields,
        "positions": "learned",
        "norm_placement": "before" if values.flag("do_layer_norm_before", True) else "after",
        "ffn_size": values.required("ffn_dim"),
        "activation": values.activation("activation_function", "relu"),
        "attention_bias": "all" if biases else "none",
        "ffn_bias": biases,
        "norm_epsilon": TORCH_EPSILON,
    }


def _opt_limits(config: DecoderConfig) -> list[str]:
    differ = (config.attention_bias == "all") != config.ffn_bias
    return _fixed_epsilon(config) + (
        [f"ffn_bias: {str(config.ffn_bias).lower()} beside attention_bias"] if differ else []
    )


GPT2 = decoder_layout(
    "gpt2",
    "GPT2LMHeadModel",
    "transformer.",
    _gpt2_parts,
    _write_gpt2,
    _read_gpt2,
    {**_SWITCHES, **_BIASED, "positions": ("learned",), "norm_placement": ("before",)},
    even_heads,
    (".attn.bias", ".attn.masked_bias"),
)
XGLM = decoder_layout(
    "xglm",
    "XGLMForCausalLM",
    "model.",
    _xglm_parts,
    _write_xglm,
    _read_xglm,
    {**_SWITCHES, **_BIASED, "positions": ("sinusoidal",), "norm_placement": ("before",)},
    _fixed_epsilon,
    ("embed_positions.weights",),
    scales_embedding=True,
)
OPT = decoder_layout(
    "opt",
    "OPTForCausalLM",
    "model.",
    _opt_parts,
    _write_opt,
    _read_opt,
    {**_SWITCHES, "positions": ("learned", "sinusoidal"), "attention_bias": ("none", "all")},
    _opt_limits,
)
