"""A Hugging Face folder in the Llama layout -> a GGUF file without vocabulary: FOLDER FILE FORMAT (bf16, q8_0 ...).

Vectors stay float32, as llama.cpp's own converter leaves them. It turns neighbouring pairs where Hugging Face turns
halves, so the rows of the query and key matrices are put in its order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quants
from safetensors.torch import load_file


def in_pairs(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows (half, i) of each head -> rows (i, half)."""
    return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def main() -> None:
    """Write the file."""
    folder, target, form = Path(sys.argv[1]), sys.argv[2], GGMLQuantizationType[sys.argv[3].upper()]
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "llama":
        raise SystemExit(f"model_type {config['model_type']}: only llama is written here")
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer = GGUFWriter(target, "llama")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config.get("rope_parameters") or config
    writer.add_rope_freq_base(rope["rope_theta"])
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = in_pairs(values, heads if "q_proj" in name else kv_heads)
        own = names.get_name(name, try_suffixes=(".weight",))
        if values.ndim == 1:
            writer.add_tensor(own, values)
        else:
            writer.add_tensor(own, quants.quantize(np.ascontiguousarray(values), form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
