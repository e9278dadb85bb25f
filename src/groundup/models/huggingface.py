"""The decoder as a native Hugging Face model, and back: config.json values, tensor names, and all tricks folded away.

    DecoderConfig, {our name: tensor}  --huggingface_config, to_huggingface-->  config.json, {their name: tensor}
                                       <--------- from_huggingface ----------

Invariant: transformers' own LlamaForCausalLM (Qwen3ForCausalLM with `qk_norm`) gives the same logits from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models.decoder import Decoder, DecoderConfig
from groundup.models.layers import unit_rms

_OUTER = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_INNER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn.gate.weight": "mlp.gate_proj.weight",
    "ffn.up.weight": "mlp.up_proj.weight",
    "ffn.down.weight": "mlp.down_proj.weight",
}


def huggingface_config(
    config: DecoderConfig,
    vocab_size: int,
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The values of config.json, in the spelling of transformers 5 and in the older one where they differ."""
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        **({"use_sliding_window": False} if config.qk_norm else {"mlp_bias": False}),
        "attention_dropout": 0.0,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "dtype": dtype,
        "torch_dtype": dtype,
        "use_cache": True,
    }


def huggingface_name(name: str) -> str:
    """Hugging Face's name of one of our parameters. Raises KeyError for a name that no decoder has."""
    if name in _OUTER:
        return _OUTER[name]
    layers, index, inner = name.split(".", 2)
    if layers != "layers":
        raise KeyError(name)
    return f"model.layers.{index}.{_INNER[inner]}"


def huggingface_shapes(config: DecoderConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the exported model; nothing is allocated."""
    return {huggingface_name(name): shape for name, shape in _shapes(config, vocab_size).items()}


def huggingface_tensors(config: DecoderConfig, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(their name, tensor) one at a time, each read from `state` in its turn; the embedding norm is folded in."""
    for name in state:
        tensor = state[name]
        if name == Decoder.embedding_name and config.embedding_norm:
            tensor = unit_rms(tensor.float(), config.norm_epsilon).to(tensor.dtype)
        yield huggingface_name(name), tensor


def to_huggingface(config: DecoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All exported tensors by their Hugging Face names; tensors that need no folding are not copied."""
    return dict(huggingface_tensors(config, state))


def from_huggingface(config: DecoderConfig, vocab_size: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a `Decoder` from the tensors of a Hugging Face model. `config` is what its config.json describes.

    A tied model may bring a copy of its table as lm_head. Raises ModelFileError naming the first tensor that is
    missing, unknown, or of another shape than the config says.
    """
    shapes = _shapes(config, vocab_size)
    names = {huggingface_name(name): name for name in shapes}
    spare = {"lm_head.weight"} if config.tied else set()
    wrong = sorted((tensors.keys() ^ names.keys()) - spare)
    if wrong:
        what = "missing" if wrong[0] in names else "not known for this architecture"
        raise ModelFileError(f"tensor '{wrong[0][:90]}' is {what} ({len(wrong)} such); copy the model again")
    state = {}
    for theirs, name in names.items():
        tensor = tensors[theirs]
        if tuple(tensor.shape) != shapes[name]:
            raise ModelFileError(
                f"tensor '{theirs[:80]}' has shape {list(tensor.shape)}, config.json says {list(shapes[name])}"
            )
        state[name] = tensor
    return state


def _shapes(config: DecoderConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = Decoder(config, vocab_size)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
