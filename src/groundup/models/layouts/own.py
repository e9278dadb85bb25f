"""Our own layout, of every kind of model that transformers has none for: the config's fields, our names of tensors.

    config.json   model_type: groundup_<kind>, the fields of the config, vocab_size     model.safetensors   our names

Such a folder is read by Groundup only; other engines refuse it by its model_type.
"""

from __future__ import annotations

import functools
import typing
from typing import Any

import torch

from groundup import config
from groundup.models.build import ModelConfig
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.network import NetworkConfig

PREFIX = "groundup_"


def own_kind(model_type: object) -> type[NetworkConfig] | None:
    """The config class of a model_type of ours."""
    union = typing.get_args(ModelConfig)[0]
    classes: tuple[type[NetworkConfig], ...] = typing.get_args(union)
    return next((cls for cls in classes if model_type == PREFIX + _kind(cls)), None)


@functools.cache
def own_layout(cls: type[NetworkConfig]) -> Layout:
    """The layout of one kind of model."""

    def read(values: ConfigValues) -> dict[str, Any]:
        return {name: values.get(name) for name in config.fields(cls) if name in values.values}

    return Layout(PREFIX + _kind(cls), (), cls, _parts, config.to_dict, read)


def _parts(model: NetworkConfig) -> dict[str, Part]:
    with torch.device("meta"):
        names = [name for name, _ in model.build(2).named_parameters()]
    return {name: Part((name,)) for name in names}


def _kind(cls: type[NetworkConfig]) -> str:
    word: str = typing.get_args(cls.model_fields["kind"].annotation)[0]
    return word
