"""Groundup's own layout, for models that Hugging Face has none for: the config's fields and our parameter names.

    config.json   model_type: groundup_lstm, the fields of LSTMConfig, vocab_size     model.safetensors   our names

Such a folder is read by Groundup only; transformers and other engines refuse it by its model_type.
Invariant: what `describe` writes `read` gives back, and an unknown or missing field is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup import config
from groundup.errors import ModelFileError, RecipeError
from groundup.export.weights import fault
from groundup.models import LSTMConfig, build_model
from groundup.models.lstm import LAYOUT

_OF_LAYOUT = ("model_type", "vocab_size", "dtype", "bos_token_id", "eos_token_id", "pad_token_id")
WITHOUT_TRANSFORMERS = "Hugging Face has no layout for LSTM language models; this folder is read by Groundup only"


def describe(model: LSTMConfig, vocab_size: int, dtype: str, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """The values of config.json; `tokens`: ids of control tokens."""
    return {"model_type": LAYOUT, "vocab_size": vocab_size, "dtype": dtype, **tokens, **config.to_dict(model)}


def read(values: Mapping[str, Any], where: Path) -> LSTMConfig:
    """The model that config.json describes. Raises ModelFileError naming the field that is missing, wrong or new."""
    described = {key: value for key, value in values.items() if key not in _OF_LAYOUT}
    try:
        return config.build(LSTMConfig, described, where.name)
    except RecipeError as error:
        raise fault(where, f"{error.message[:110]}; copy the model again") from None


def state_of(model: LSTMConfig, vocab_size: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an `LSTM` from tensors. Raises ModelFileError naming one that is missing, unknown or misshapen."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in build_model(model, vocab_size).named_parameters()}
    wrong = sorted(tensors.keys() ^ shapes.keys())
    if wrong:
        what = "missing" if wrong[0] in shapes else "not known for this architecture"
        raise ModelFileError(f"tensor '{wrong[0][:90]}' is {what} ({len(wrong)} such); copy the model again")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ModelFileError(
                f"tensor '{name[:80]}' has shape {list(tensors[name].shape)}, config.json says {list(shape)}"
            )
    return {name: tensors[name] for name in shapes}
