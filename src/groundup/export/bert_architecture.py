"""A config.json of type `bert` -> the encoder it describes, or a refusal that names the key in the way.

Each key is one of: part of the description, a promise that must have the one value this encoder computes, or of no
effect on the scores; anything else is refused (as `architecture.py` does for decoders).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import RecipeError
from groundup.export.architecture import REMOTE_CODE, refuse_remote_code
from groundup.export.weights import fault
from groundup.models import EncoderConfig

MODEL_TYPE = "bert"
ARCHITECTURES = ("BertForPreTraining", "BertForMaskedLM")
PROMISES: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "quantization_config": (None,),
}
"""Keys that change the scores unless they have one of these values."""
DESCRIPTION = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"}
    | {"type_vocab_size", "layer_norm_eps", "vocab_size", "tie_word_embeddings", "initializer_range"}
)
NO_EFFECT = frozenset(
    {"architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "name_or_path"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "tokenizer_class", "prefix"}
    | {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "use_cache", "return_dict"}
    | {"output_attentions", "output_hidden_states", "chunk_size_feed_forward", "id2label", "label2id", "problem_type"}
    | {"gradient_checkpointing", "directionality", "language", "name", "attn_implementation"}
    | {"pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"}
)
"""Keys that leave the scores as they are (the pooler's sizes are of older BERTs and were never read)."""


def read_bert_architecture(values: Mapping[str, Any], where: Path) -> tuple[EncoderConfig, int]:
    """The encoder and its vocabulary size. Raises ModelFileError naming the key that is missing, wrong or unknown."""
    refuse_remote_code(values, where)
    named = values.get("architectures") or [ARCHITECTURES[1]]
    if not isinstance(named, list) or len(named) != 1 or named[0] not in ARCHITECTURES:
        raise fault(where, f"architectures {str(named)[:50]} is none of {' or '.join(ARCHITECTURES)}; use one of them")
    for key, allowed in PROMISES.items():
        if key in values and values[key] not in allowed:
            raise fault(
                where, f"{key} = {str(values[key])[:30]!r} is not supported, only {allowed[0]!r}; use another model"
            )
    known = DESCRIPTION | NO_EFFECT | PROMISES.keys() | set(REMOTE_CODE)
    for key, value in values.items():
        if key not in known and value not in (None, False, [], {}):
            raise fault(
                where, f"unknown key {key[:50]!r} may change the scores, so it is refused; remove it if it does not"
            )
    try:
        encoder = config.build(EncoderConfig, _description(values, named[0], where), where.name)
    except RecipeError as error:
        finding = re.sub(r"^.*?faults?: (recipe: )?", "", error.message).partition(', got {"')[0]
        raise fault(where, f"{finding[:110]}; copy the model again") from None
    size = values.get("vocab_size")
    if type(size) is not int or size < 1:
        raise fault(where, f"vocab_size {str(size)[:20]} is no positive number; copy the model again")
    return encoder, size


def _description(values: Mapping[str, Any], architecture: str, where: Path) -> dict[str, Any]:
    """The fields of `EncoderConfig`, with transformers' defaults for what may be left out."""

    def required(key: str) -> Any:
        if values.get(key) is None:
            raise fault(where, f"no '{key}', so the model's shape is not known; copy the model again")
        return values[key]

    context_length = required("max_position_embeddings")
    share = EncoderConfig.model_fields["predicted_share"].default
    return {
        "kind": "encoder",
        "context_length": context_length,
        "num_layers": required("num_hidden_layers"),
        "hidden_size": required("hidden_size"),
        "num_heads": required("num_attention_heads"),
        "ffn_size": required("intermediate_size"),
        "num_parts": values.get("type_vocab_size", 2),
        "norm_epsilon": values.get("layer_norm_eps", 1e-12),
        "init_std": values.get("initializer_range", 0.02),
        "tied": values.get("tie_word_embeddings", True),
        "next_sentence": architecture == ARCHITECTURES[0],
        "predicted_share": share if not isinstance(context_length, int) else min(1.0, max(share, 2 / context_length)),
    }
