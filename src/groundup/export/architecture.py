"""A Hugging Face config.json -> the model it describes, or a refusal that names the key in the way.

Each key is one of: asked for by the layout of its model_type (`groundup.models.layouts`), a promise that must have the
one value this model computes, or of no effect on the logits. Anything else is refused: a key that is ignored silently
may change every logit.

Invariant: data never chooses code; `auto_map` and its like are refused, nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import ModelFileError, RecipeError
from groundup.export.weights import fault
from groundup.models import LAYOUTS, ConfigValues, Layout, NetworkConfig, find_layout

OF_ENCODERS = ("ForMaskedLM", "ForPreTraining", *(f"For{task}Classification" for task in ("Sequence", "Token")))
OF_ENCODERS += ("ForQuestionAnswering", "ForMultipleChoice", "ForNextSentencePrediction")
"""Ends of the names of classes that are encoders, or under a head for a task."""
REMOTE_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
NO_EFFECT = frozenset(
    {"architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "name_or_path"}
    | {"_model_name_or_path", "gradient_checkpointing", "init_std", "layerdrop", "decoder_start_token_id"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "tokenizer_class", "prefix"}
    | {"use_cache", "initializer_range", "attention_dropout", "sliding_window", "max_window_layers", "is_decoder"}
    | {"return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "id2label", "label2id"}
    | {"problem_type", "finetuning_task", "task_specific_params", "cross_attention_hidden_size", "num_labels"}
    | {"dropout", "activation_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj"}
    | {"summary_activation", "summary_proj_to_labels", "summary_first_dropout"}
    | {"is_llama_config", "transformers.js_config", "unsloth_fixed", "unsloth_version", "max_sequence_length"}
    | {"n_special", "predict_special_tokens", "output_past", "_num_labels", "pretraining_tp", "eos_token_ids"}
)
"""Keys that leave the logits as they are (dropout and such matter in training only); the last are of single makers."""
OF_GENERATION = frozenset(
    {"max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample", "early_stopping", "temperature"}
    | {"num_beams", "num_beam_groups", "num_return_sequences", "diversity_penalty", "length_penalty"}
    | {"top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids"}
    | {"encoder_no_repeat_ngram_size", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"}
    | {"begin_suppress_tokens", "exponential_decay_length_penalty", "output_scores", "return_dict_in_generate"}
)
"""What older versions of transformers wrote into config.json and now have in generation_config.json."""


def read_architecture(values: Mapping[str, Any], where: Path) -> tuple[NetworkConfig, int, Layout]:
    """The model, its vocabulary size and its layout.

    Raises ModelFileError naming the key that is missing, wrong or unknown.
    """
    for key in REMOTE_CODE:
        if values.get(key):
            raise fault(
                where, f"'{key}' asks for code that comes with the model, which is never run; use a plain model"
            )
    kind = values.get("model_type")
    layout = find_layout(kind)
    if layout is None:
        known = ", ".join(dict.fromkeys(layout.model_type for layout in LAYOUTS))
        raise fault(
            where,
            f"model_type {str(kind)[:30]!r} is not known; use {known}, or with the extra hf another of transformers",
        )
    named = values.get("architectures")
    if named:
        of_type = [each for each in LAYOUTS if each.model_type == kind] or [layout]
        known = " or ".join(name for each in of_type for name in each.architectures) or "none"
        layout = find_layout(kind, named[0]) if isinstance(named, list) and len(named) == 1 else None
        if layout is None:
            if not any(each.model_type == kind for each in LAYOUTS) and str(named).rstrip("']").endswith(OF_ENCODERS):
                known = "an encoder in the layout of BERT, such as BertForMaskedLM; no other is read"
            raise fault(where, f"architectures {str(named)[:50]} is not known; use {known}")
    try:
        return _build(ConfigValues(values), layout, where), _vocab_size(values), layout
    except ModelFileError as error:
        raise fault(where, error.message) from None


def _build(values: ConfigValues, layout: Layout, where: Path) -> NetworkConfig:
    fields = layout.read(values)
    values.promise("is_encoder_decoder", False)
    values.promise("add_cross_attention", False)
    values.promise("quantization_config")
    values.promise("rope_interleaved", False)
    known = values.asked | NO_EFFECT | OF_GENERATION | layout.no_effect | set(REMOTE_CODE) | {"vocab_size"}
    for key, value in values.values.items():
        if key not in known and value not in (None, False, [], {}):
            raise ModelFileError(
                f"unknown key {key[:50]!r} may change the logits, so it is refused; remove it if it does not"
            )
    try:
        return config.build(layout.config, fields, where.name)
    except RecipeError as error:
        finding = re.sub(r"^.*?faults?: (recipe: )?", "", error.message).partition(', got {"')[0]
        raise ModelFileError(f"{finding[:110]}; copy the model again") from None


def _vocab_size(values: Mapping[str, Any]) -> int:
    size = values.get("vocab_size")
    if type(size) is not int or size < 1:
        raise ModelFileError(f"vocab_size {str(size)[:20]} is no positive number; copy the model again")
    return size
