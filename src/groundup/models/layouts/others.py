"""The layout of every other decoder of transformers: config.json's values as they are, tensors by the class's names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.transformers_model import (
    TOKEN_IDS,
    TransformersConfig,
    class_name,
    context_length_of,
    file_names,
    installed,
    renaming,
)

TRAINED_CONTEXT = "groundup_context_length"
"""Key of a config.json for the context that a model was trained on; the class goes on with its own limit."""
OF_THE_FILE = frozenset({"architectures", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "use_cache"})
"""Keys that say something of the file, or of one use."""


def other_layout(model_type: object) -> Layout | None:
    """The layout of a type that transformers has a causal class for; None where it has none or is not installed."""
    if not isinstance(model_type, str) or not installed():
        return None
    return _layout(model_type)


@functools.lru_cache(maxsize=16)
def _layout(model_type: str) -> Layout | None:
    found = class_name(model_type)
    if found is None:
        return None

    def renamed(name: str) -> str:
        written: str = renaming(model_type, back=True)(renaming(model_type)(name))
        return written

    return Layout(
        model_type,
        (found,),
        TransformersConfig,
        _parts,
        _write,
        _read,
        copies=_copies,
        buffers=(".inv_freq", ".masked_bias", ".attn.bias", ".attention.bias"),
        renamed=renamed,
    )


def _parts(config: TransformersConfig) -> dict[str, Part]:
    return {theirs: Part((ours,)) for ours, theirs in file_names(config.model_dump_json()).of.items()}


def _copies(config: TransformersConfig) -> Mapping[str, str]:
    """A tied model may bring its table a second time, under the name of its output matrix."""
    names = file_names(config.model_dump_json())
    return {names.output: names.table} if names.tied else {}


def _write(config: TransformersConfig) -> dict[str, Any]:
    return {**config.values, TRAINED_CONTEXT: config.context_length}


def _read(values: ConfigValues) -> dict[str, Any]:
    vocab_size = values.required("vocab_size")
    dropped = {*OF_THE_FILE, *TOKEN_IDS, "vocab_size", TRAINED_CONTEXT}
    # Keys that begin with _ are notes of transformers to itself, such as which code to attend with.
    values.asked.update(key for key in values.values if key.startswith("_"))
    kept = {key: values.get(key) for key in values.values if key not in dropped and not key.startswith("_")}
    trained = values.get(TRAINED_CONTEXT)
    return {
        "kind": "transformers",
        "context_length": context_length_of(kept, vocab_size) if trained is None else trained,
        "values": kept,
    }
