"""Small GGUF files, written byte by byte: what llama.cpp makes of a Llama, and spoilt ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from groundup.models import Decoder, to_huggingface

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FORMATS = {"F32": (0, torch.float32), "F16": (1, torch.float16), "BF16": (30, torch.bfloat16)}
QUANTISED = {"Q8_0": 8, "Q4_1": 3}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value_of(value: Any) -> bytes:
    """Type and value of a key."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    inner = value_of(value[0])[:4]
    return struct.pack("<I", 9) + inner + struct.pack("<Q", len(value)) + b"".join(value_of(one)[4:] for one in value)


def gguf_bytes(
    metadata: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], int, bytes]], version: int = 3
) -> bytes:
    """A whole file: metadata, then tensors {name: (shape, type, data)}."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value_of(value) for key, value in metadata.items())
    offset, data = 0, b""
    for name, (shape, kind, raw) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", kind, offset)
        data += raw + b"\0" * (-len(raw) % 32)
        offset = len(data)
    return head + b"\0" * (-len(head) % 32) + data


def file_of(
    model: Decoder,
    form: str = "F32",
    architecture: str = "llama",
    factors: torch.Tensor | None = None,
    **extra: Any,
) -> bytes:
    """`model` as llama.cpp's converter writes it: rows of queries and keys in pairs for Llama."""
    config = model.config
    metadata = {
        "general.architecture": architecture,
        f"{architecture}.block_count": config.num_layers,
        f"{architecture}.context_length": config.context_length,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.ffn_size,
        f"{architecture}.attention.head_count": config.num_heads,
        f"{architecture}.attention.head_count_kv": config.num_kv_heads,
        f"{architecture}.attention.key_length": config.head_size,
        f"{architecture}.rope.freq_base": config.rope_theta,
        f"{architecture}.attention.layer_norm_rms_epsilon": config.norm_epsilon,
        **extra,
    }
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    tensors = {} if factors is None else {"rope_freqs.weight": encoded(factors, "F32")}
    for name, tensor in to_huggingface(config, state).items():
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_heads if "q_proj" in name else config.num_kv_heads
            tensor = tensor.view(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
        theirs = "blk." + name.removeprefix("model.layers.") if name.startswith("model.layers.") else name
        for ours, short in NAMES.items():
            theirs = theirs.replace(f"{ours}.", f"{short}.")
        tensors[theirs] = encoded(tensor, form)
    return gguf_bytes(metadata, tensors)


def encoded(tensor: torch.Tensor, form: str) -> tuple[tuple[int, ...], int, bytes]:
    """A tensor in a number format; norms stay float32, as llama.cpp has them."""
    shape = tuple(tensor.shape)
    if form in FORMATS:
        kind, dtype = FORMATS[form] if tensor.ndim > 1 else FORMATS["F32"]
        return shape, kind, tensor.contiguous().to(dtype).view(torch.uint8).numpy().tobytes()
    if tensor.ndim == 1:
        return encoded(tensor, "F32")
    import gguf

    kind = gguf.GGMLQuantizationType(QUANTISED[form])
    return shape, QUANTISED[form], gguf.quantize(tensor.numpy().astype(np.float32), kind).tobytes()
