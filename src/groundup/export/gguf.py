"""A GGUF file -> config.json values and tensors by their Hugging Face names.

    header (`gguf_header`) -> values of config.json (architecture, sizes, rope), {name: shape}; read(name) -> tensor

F32, F16 and BF16 are read as they are; what is quantised (Q4_K, Q8_0, ...) is expanded by the package `gguf`.
Invariant: what a file says that is not known is refused.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.export.gguf_header import PLAIN, Entry, Header, quantised
from groundup.export.weights import fault, finite
from groundup.models.rotary import Llama3Scaling, frequencies, llama3

LAYOUTS = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
READ_KEYS = frozenset(
    {"block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"}
    | {"attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"}
    | {"attention.layer_norm_rms_epsilon", "attention.causal", "tensor_data_layout"}
    | {"rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor"}
)
"""Keys of an architecture that are read, or are of no effect; another may change the logits, so it is refused."""
ROPE_FACTORS = "rope_freqs.weight"
"""What each rotary angle is divided by, in files of Llama 3.1 and later."""
LLAMA3_CONTEXT, LLAMA3_LOW, LLAMA3_HIGH = 8192, 1.0, 4.0
"""What the published models of Llama 3.1 and later have; a file that has other factors is refused."""
_BLOCK_NAME = re.compile(r"blk\.(\d{1,5})\.([a-z_]+)\.(weight|bias)")


@dataclass(frozen=True)
class GGUFModel:
    """What a GGUF file says."""

    metadata: Mapping[str, Any]
    values: Mapping[str, Any]
    """As a config.json would say it."""
    shapes: Mapping[str, tuple[int, ...]]
    """By Hugging Face name."""
    read: Callable[[str], Tensor]


def read_gguf(path: Path) -> GGUFModel:
    """The header of a file. Raises ModelFileError on any departure from the format, or what is not known."""
    if not path.is_file():
        raise fault(path, "is not there; give a .gguf file")
    with path.open("rb") as handle:
        if path.stat().st_size < 24:
            raise fault(path, f"{path.stat().st_size} bytes is too short for a GGUF file; copy it again")
        data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    metadata, entries = Header(data, path).parse()
    values = _values(metadata, entries, path)
    if ROPE_FACTORS in entries:
        values["rope_scaling"] = _llama3(_tensor(data, entries[ROPE_FACTORS], ROPE_FACTORS, path), values, path)
    names = {_huggingface_name(name, path): name for name in entries if name != ROPE_FACTORS}
    heads = {"q_proj": values["num_attention_heads"], "k_proj": values["num_key_value_heads"]}

    def read(name: str) -> Tensor:
        tensor = finite(_tensor(data, entries[names[name]], names[name], path), names[name], path)
        part = name.split(".")[-2]
        return _unpaired(tensor, heads[part]) if values["model_type"] == "llama" and part in heads else tensor

    return GGUFModel(metadata, values, {name: entries[theirs].shape for name, theirs in names.items()}, read)


def _tensor(data: mmap.mmap, entry: Entry, name: str, path: Path) -> Tensor:
    raw = np.frombuffer(data, dtype=np.uint8, count=entry.size_bytes, offset=entry.start)
    if entry.kind in PLAIN:
        # A copy: torch refuses memory that may not be written.
        return torch.from_numpy(raw.copy()).view(PLAIN[entry.kind]).view(entry.shape)
    library = quantised(path)
    try:
        rows = raw.reshape(math.prod(entry.shape[:-1]), -1)
        expanded = library.dequantize(rows, library.GGMLQuantizationType(entry.kind))
    except (NotImplementedError, ValueError) as error:
        raise fault(path, f"tensor '{name[:40]}' cannot be expanded ({str(error)[:60]}); convert it to Q8_0") from None
    return torch.from_numpy(np.ascontiguousarray(expanded, dtype=np.float32)).view(entry.shape)


def _unpaired(tensor: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's order of the rows of queries and keys: it turns neighbours, Hugging Face turns halves."""
    paired = tensor.view(heads, tensor.shape[0] // heads // 2, 2, *tensor.shape[1:])
    return paired.transpose(1, 2).reshape(tensor.shape)


def _huggingface_name(name: str, path: Path) -> str:
    if name in _OUTER:
        return _OUTER[name]
    found = _BLOCK_NAME.fullmatch(name)
    if found is None or found[2] not in _INNER:
        raise fault(path, f"tensor '{name[:50]}' is not known for this architecture; use a plain Llama or Qwen model")
    return f"model.layers.{int(found[1])}.{_INNER[found[2]]}.{found[3]}"


def _llama3(factors: Tensor, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The scaling that has these factors, as Llama 3.1 has it. Raises ModelFileError when it is another."""
    scaling = Llama3Scaling(
        factor=max(1.0, round(float(factors.float().max()), 4)),
        low_freq_factor=LLAMA3_LOW,
        high_freq_factor=LLAMA3_HIGH,
    )
    plain = frequencies(values["head_dim"], values["rope_theta"], factors.device)
    stretched = llama3(plain, scaling, LLAMA3_CONTEXT)
    if factors.shape != plain.shape or not torch.allclose(plain / stretched, factors.float(), rtol=1e-4):
        raise fault(path, "its rotary positions are stretched in a way that is not read; take the Hugging Face folder")
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "original_max_position_embeddings": LLAMA3_CONTEXT,
        "low_freq_factor": LLAMA3_LOW,
        "high_freq_factor": LLAMA3_HIGH,
    }


def _values(metadata: Mapping[str, Any], entries: Mapping[str, Entry], path: Path) -> dict[str, Any]:
    """config.json's values, from the metadata of llama.cpp's names."""
    kind = metadata.get("general.architecture")
    if kind not in LAYOUTS:
        raise fault(path, f"architecture {str(kind)[:30]!r} is not known; use a GGUF of {' or '.join(LAYOUTS)}")
    if metadata.get(f"{kind}.rope.scaling.type", "none") not in ("none", "linear"):
        raise fault(path, "its rotary positions are stretched in a way that is not read; take the Hugging Face folder")
    for key, value in metadata.items():
        if key.startswith(f"{kind}.") and key.removeprefix(f"{kind}.") not in READ_KEYS and value:
            raise fault(path, f"unknown key {key[:50]!r} may change the logits, so it is refused; use a plain model")

    def required(key: str) -> Any:
        value = metadata.get(f"{kind}.{key}")
        if type(value) not in (int, float):
            raise fault(path, f"no number '{kind}.{key}', so the model's shape is not known; convert the model again")
        return value

    heads, hidden = required("attention.head_count"), required("embedding_length")
    if "token_embd.weight" not in entries or not 0 < heads <= hidden:
        raise fault(path, "no table of tokens, or no heads; convert the model again")
    key_heads = metadata.get(f"{kind}.attention.head_count_kv", heads)
    head_dim = metadata.get(f"{kind}.attention.key_length", hidden // heads)
    rotated = metadata.get(f"{kind}.rope.dimension_count", head_dim)
    if type(key_heads) is not int or key_heads < 1 or rotated != head_dim:
        raise fault(path, f"{str(key_heads)[:20]} key heads, {rotated} of {head_dim} rotated: this is not supported")
    factor = metadata.get(f"{kind}.rope.scaling.factor")
    return {
        "model_type": LAYOUTS[kind],
        "vocab_size": entries["token_embd.weight"].shape[0],
        "hidden_size": hidden,
        "intermediate_size": required("feed_forward_length"),
        "num_hidden_layers": required("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": head_dim,
        "max_position_embeddings": required("context_length"),
        # float32 in the file: 1e-5 comes as 9.99999974e-06.
        "rms_norm_eps": float(f"{required('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(metadata.get(f"{kind}.rope.freq_base", 10_000.0)),
        "tie_word_embeddings": "output.weight" not in entries,
        # Known by their tensors only; Qwen2 has its biases without being told.
        **({"attention_bias": "blk.0.attn_q.bias" in entries} if kind != "qwen2" else {}),
        **({"mlp_bias": "blk.0.ffn_up.bias" in entries} if kind == "llama" else {}),
        **({} if factor is None else {"rope_scaling": {"rope_type": "linear", "factor": factor}}),
    }
