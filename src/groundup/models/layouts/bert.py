"""BERT: an encoder with its heads for masked tokens and, with `next_sentence`, for pairs.

Invariant: transformers' BertForPreTraining (BertForMaskedLM without a head for pairs) gives the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from groundup.errors import ModelFileError
from groundup.models.encoder import EncoderConfig
from groundup.models.layouts.layout import ConfigValues, Layout, Part

WITHOUT_PAIRS, WITH_PAIRS, BODY = "BertForMaskedLM", "BertForPreTraining", "BertModel"
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
_TABLES = ("embedding.weight", "positions.weight", "parts.weight")
_POOLER = ("next_sentence.pooler.weight", "next_sentence.pooler.bias")
_PAIRS = (*_POOLER, "next_sentence.output.weight", "next_sentence.output.bias")
_OLD_ENDINGS = ((".gamma", ".weight"), (".beta", ".bias"))
"""How norms were called by the first converters of BERT."""


def bert_name(name: str) -> str:
    """Hugging Face's name of one of our parameters. Raises KeyError for a name that no encoder has."""
    module, _, kind = name.rpartition(".")
    if module in _OUTER:
        return f"{_OUTER[module]}.{kind}"
    layers, index, inner = module.split(".", 2)
    if layers != "layers":
        raise KeyError(name)
    return f"bert.encoder.layer.{index}.{_INNER[inner]}.{kind}"


TABLE, TABLE_COPY = bert_name("embedding.weight"), bert_name("masked.output.weight")
BIAS, BIAS_COPY = bert_name("masked.bias"), bert_name("masked.output.bias")


def body_names(config: EncoderConfig) -> list[str]:
    """Our names of what stands below the heads."""
    with_bias = ["embedding_norm"] + [
        f"layers.{layer}.{inner}" for layer in range(config.num_layers) for inner in _INNER
    ]
    return [*_TABLES, *(f"{module}.{kind}" for module in with_bias for kind in ("weight", "bias"))]


def _parts(config: EncoderConfig) -> dict[str, Part]:
    masked = [f"masked.{part}.{kind}" for part in ("transform", "norm") for kind in ("weight", "bias")]
    names = [*body_names(config), *masked, "masked.bias", *(_PAIRS if config.next_sentence else ())]
    parts = {bert_name(name): Part((name,)) for name in names}
    if not config.tied:
        # transformers keeps the table and the bias of the scores apart from the others then.
        parts |= {TABLE_COPY: Part(("masked.output.weight",)), BIAS_COPY: Part(("masked.bias",))}
    return parts


def _write(config: EncoderConfig) -> dict[str, Any]:
    return {
        "architectures": [WITH_PAIRS if config.next_sentence else WITHOUT_PAIRS],
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
        "is_decoder": False,
    }


def _read(values: ConfigValues) -> dict[str, Any]:
    """The fields of `EncoderConfig`, with transformers' defaults for what may be left out."""
    values.promise("hidden_act", "gelu")
    values.promise("position_embedding_type", "absolute")
    values.promise("is_decoder", False)
    named = values.values.get("architectures") or [WITHOUT_PAIRS]
    context_length = values.required("max_position_embeddings")
    share = EncoderConfig.model_fields["predicted_share"].default
    if type(context_length) is not int or context_length < 1:
        raise ModelFileError(f"max_position_embeddings {str(context_length)[:20]!r} is no length; copy the model again")
    return {
        "kind": "encoder",
        "context_length": context_length,
        "num_layers": values.required("num_hidden_layers"),
        "hidden_size": values.required("hidden_size"),
        "num_heads": values.required("num_attention_heads"),
        "ffn_size": values.required("intermediate_size"),
        "num_parts": values.get("type_vocab_size", 2),
        "norm_epsilon": values.get("layer_norm_eps", 1e-12),
        "init_std": values.get("initializer_range", 0.02),
        "tied": values.get("tie_word_embeddings", True),
        "next_sentence": named == [WITH_PAIRS],
        "predicted_share": min(1.0, max(share, 2 / context_length)),
    }


def _copies(config: EncoderConfig) -> Mapping[str, str]:
    return {TABLE_COPY: TABLE, BIAS_COPY: BIAS} if config.tied else {}


def _spare(config: EncoderConfig) -> set[str]:
    return set() if config.next_sentence else {bert_name(name) for name in _PAIRS}


def _renamed(name: str) -> str:
    for old, new in _OLD_ENDINGS:
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


BERT = Layout(
    "bert",
    (WITHOUT_PAIRS, WITH_PAIRS),
    EncoderConfig,
    _parts,
    _write,
    _read,
    "bert.",
    heads=("cls.",),
    copies=_copies,
    spare=_spare,
    buffers=("embeddings.position_ids",),
    renamed=_renamed,
    switches={"kind": ("encoder",)},
    no_effect=frozenset(
        {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "directionality", "language"}
        | {"pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"}
        | {"pooler_type", "name", "attn_implementation"}
    ),
)
"""The pooler's sizes are of older BERTs and were never read."""


def _body_parts(config: EncoderConfig) -> dict[str, Part]:
    pooler = _POOLER if config.next_sentence else ()
    return {bert_name(name): Part((name,)) for name in (*body_names(config), *pooler)}


BERT_BODY = replace(
    BERT,
    architectures=(BODY,),
    parts=_body_parts,
    read=lambda values: {**_read(values), "next_sentence": True},
    heads=(),
    copies=lambda config: {},
    spare=lambda config: () if config.next_sentence else {bert_name(name) for name in _POOLER},
    optional=lambda config: {bert_name(name) for name in _POOLER},
    parameters=EncoderConfig.body_parameters,
)
"""What is below the heads, with the pooler that stands before that for pairs, or without (`add_pooling_layer=False`):
something to start from."""
