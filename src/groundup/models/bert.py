"""The encoder as a Hugging Face model, and back: config.json values and tensor names of BERT.

    EncoderConfig, {our name: tensor}  --bert_config, to_bert-->  config.json, {their name: tensor}
                                       <------- from_bert ------

Invariant: transformers' own BertForPreTraining (BertForMaskedLM without a next-sentence head) gives the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models.encoder import Encoder, EncoderConfig

_OUTER = {
    "embedding": "bert.embeddings.word_embeddings",
    "positions": "bert.embeddings.position_embeddings",
    "parts": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "masked.transform": "cls.predictions.transform.dense",
    "masked.norm": "cls.predictions.transform.LayerNorm",
    "masked.output": "cls.predictions.decoder",
    "masked": "cls.predictions",
    "next_sentence.pooler": "bert.pooler.dense",
    "next_sentence.output": "cls.seq_relationship",
}
_INNER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn.up": "intermediate.dense",
    "ffn.down": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
TABLE, TABLE_COPY = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
BIAS, BIAS_COPY = "cls.predictions.bias", "cls.predictions.decoder.bias"
_OLD_ENDINGS = ((".gamma", ".weight"), (".beta", ".bias"))
"""How norms were called by the first converters of BERT."""


def bert_config(
    config: EncoderConfig, vocab_size: int, *, pad_token_id: int | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """The values of config.json."""
    return {
        "architectures": ["BertForPreTraining" if config.next_sentence else "BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "max_position_embeddings": config.context_length,
        "type_vocab_size": config.num_parts,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "tie_word_embeddings": config.tied,
        "initializer_range": config.init_std,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": pad_token_id,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def bert_name(name: str) -> str:
    """Hugging Face's name of one of our parameters. Raises KeyError for a name that no encoder has."""
    module, _, kind = name.rpartition(".")
    if module in _OUTER:
        return f"{_OUTER[module]}.{kind}"
    layers, index, inner = module.split(".", 2)
    if layers != "layers":
        raise KeyError(name)
    return f"bert.encoder.layer.{index}.{_INNER[inner]}.{kind}"


def to_bert(config: EncoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All exported tensors by their Hugging Face names; nothing is copied.

    An untied model has the bias of its scores twice, as transformers keeps both apart then.
    """
    tensors = {bert_name(name): tensor for name, tensor in state.items()}
    return tensors if config.tied else {**tensors, BIAS_COPY: tensors[BIAS].clone()}


def from_bert(config: EncoderConfig, vocab_size: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of an `Encoder` from the tensors of a Hugging Face model. `config` is what its config.json describes.

    Copies of tied tensors, position numbers, and a pooler and next-sentence head that `config` does not ask for may be
    there. Raises ModelFileError naming the first tensor that is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = Encoder(config, vocab_size)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names = {bert_name(name): name for name in shapes}
    found = _renamed(tensors)
    spare = {BIAS_COPY, "bert.embeddings.position_ids"}
    spare |= {TABLE_COPY} if config.tied else set()
    if not config.next_sentence:
        spare |= {f"{_OUTER[f'next_sentence.{part}']}.{kind}" for part in ("pooler", "output") for kind in _KINDS}
    wrong = sorted((found.keys() ^ names.keys()) - spare)
    if wrong:
        what = "missing" if wrong[0] in names else "not known for this architecture"
        raise ModelFileError(f"tensor '{wrong[0][:90]}' is {what} ({len(wrong)} such); copy the model again")
    for theirs, name in names.items():
        if tuple(found[theirs].shape) != shapes[name]:
            raise ModelFileError(
                f"tensor '{theirs[:80]}' has shape {list(found[theirs].shape)}, config.json says {list(shapes[name])}"
            )
    return {name: found[theirs] for theirs, name in names.items()}


_KINDS = ("weight", "bias")


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the names that norms have today, and the bias of the scores under its own name."""
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in _OLD_ENDINGS:
            name = name.removesuffix(old) + new if name.endswith(old) else name
        renamed[name] = tensor
    if BIAS not in renamed and BIAS_COPY in renamed:
        renamed[BIAS] = renamed[BIAS_COPY]
    return renamed
