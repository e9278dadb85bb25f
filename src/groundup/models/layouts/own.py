"""Our own layout of LSTMs, for which transformers has none: the config's fields, and our names of tensors.

    config.json   model_type: groundup_lstm, the fields of LSTMConfig, vocab_size     model.safetensors   our names

Such a folder is read by Groundup only; other engines refuse it by its model_type.
"""

from __future__ import annotations

from typing import Any

from groundup import config
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.lstm import LSTMConfig


def _parts(model: LSTMConfig) -> dict[str, Part]:
    layers = (f"layers.{index}.{name}" for index in range(model.num_layers) for name in ("input", "recurrent", "bias"))
    names = ["embedding.weight", *layers, *([] if model.tied else ["head.weight"])]
    return {name: Part((name,)) for name in names}


def _read(values: ConfigValues) -> dict[str, Any]:
    values.promise("kind", "lstm")
    return {name: values.get(name) for name in config.fields(LSTMConfig) if name in values.values}


LSTM = Layout("groundup_lstm", (), LSTMConfig, _parts, config.to_dict, _read)
