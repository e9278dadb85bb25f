"""The package transformers as a library of classes: values of a config.json -> the class's own config, and the class.

It is imported only when a model asks for it, as that takes seconds. Invariant: nothing that comes with a model is run:
classes are the package's own, and values that choose code are refused.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch

from groundup.errors import ModelFileError, ResourceError

LAYERS_LIMIT = 10_000
"""More layers than any model has; a damaged number is refused before anything is made of it."""
LAYER_KEYS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
UNBOUND_CONTEXT = 2048
"""Context of a class whose config names none, as its positions have no end."""
CHOOSING_CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "attn_implementation", "experts_implementation")
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def wrong_values(values: Mapping[str, Any]) -> str | None:
    """What must not be in a config, before anything is made of it."""
    for key, value in values.items():
        if (key in CHOOSING_CODE or key.startswith("_")) and value:
            return f"'{key[:40]}' chooses code, which a model may not; take it out of its config"
    for key in LAYER_KEYS:
        layers = values.get(key, 1)
        if type(layers) is not int or not 0 < layers <= LAYERS_LIMIT:
            return f"{key} {str(layers)[:20]!r} is no number of layers; copy the model again"
    return None


def installed() -> bool:
    """Whether transformers is there; it is imported only when a model asks for it, as that takes seconds."""
    return importlib.util.find_spec("transformers") is not None


def library() -> Any:
    """The package transformers. Raises ResourceError when it cannot be imported."""
    try:
        import transformers
    except ImportError:
        raise ResourceError(
            "model.kind: transformers needs the package transformers; install it: pip install 'groundup[hf]'"
        ) from None
    return transformers


def class_name(model_type: str) -> str | None:
    """Name of transformers' class for causal language models of this type; None when it has none."""
    library()
    names = importlib.import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    found = names.get(model_type)
    return found if isinstance(found, str) else None


def settings_of(values: Mapping[str, Any], vocab_size: int) -> Any:
    """transformers' own config of `values`. Raises ModelFileError when it refuses them."""
    if wrong := wrong_values(values):
        raise ModelFileError(wrong)
    kept = {key: value for key, value in values.items() if key != "model_type"}
    # Numbers of tokens belong to the tokenizer; a padding id would only keep that token's row from learning.
    kept |= {"vocab_size": vocab_size, **dict.fromkeys(TOKEN_IDS)}
    try:
        settings = library().AutoConfig.for_model(values.get("model_type"), **kept)
        more_than_text = settings.get_text_config() is not settings
    except Exception as error:  # checks of many classes: any kind of error
        raise ModelFileError(f"transformers refuses its values ({in_a_line(error)}); copy the model again") from None
    if more_than_text or getattr(settings, "is_encoder_decoder", False):
        raise ModelFileError(f"{settings.model_type} is more than a causal language model of text; use another model")
    return settings


def context_length_of(values: Mapping[str, Any], vocab_size: int) -> int:
    """Positions that the class has, as its config says."""
    return positions_of(settings_of(values, vocab_size)) or UNBOUND_CONTEXT


def positions_of(settings: Any) -> int | None:
    """Positions that a class has, as its config says; None: no end."""
    found = getattr(settings, "max_position_embeddings", None)
    return found if type(found) is int and found > 1 else None


def in_a_line(error: Exception) -> str:
    """An error of any class, short."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:100]


def made(values: Mapping[str, Any], context_length: int, vocab_size: int) -> Any:
    """The class that `values` describe, without values in its parameters, on the current default device.

    Raises ModelFileError when there is none, or it cannot be used for texts of `context_length` tokens.
    """
    transformers, settings = library(), settings_of(values, vocab_size)
    limit = positions_of(settings)
    if limit is not None and context_length > limit:
        raise ModelFileError(f"model.context_length {context_length} is above the model's {limit}; lower it")
    try:
        cls = transformers.AutoModelForCausalLM._model_mapping[type(settings)]
    except KeyError:
        raise ModelFileError(f"transformers has no causal model of type {settings.model_type}; use another") from None
    if cls._is_stateful:
        raise ModelFileError(f"{cls.__name__} carries a state through a row, so documents would mix; use another model")
    try:
        with importlib.import_module("transformers.initialization").no_init_weights():
            body = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
        body.tie_weights()
        return body
    except Exception as error:  # constructors of many classes: any kind of error
        raise ModelFileError(f"{cls.__name__} cannot be made ({in_a_line(error)}); copy the model again") from None
