"""The layout of every other decoder of transformers: config.json's values as they are, tensors by the class's names.

Some classes call their tensors otherwise than their files do, and stack experts that files keep apart; how is taken
from transformers' own table.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from groundup.errors import ModelFileError
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.transformers_library import TOKEN_IDS, class_name, context_length_of, installed
from groundup.models.transformers_model import TransformersConfig, TransformersModel

TRAINED_CONTEXT = "groundup_context_length"
"""Key of a config.json for the context that a model was trained on; the class goes on with its own limit."""
OF_THE_FILE = frozenset({"architectures", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "use_cache"})
"""Keys that say something of the file, or of one use."""
STACK = ("MergeModulelist", "Concatenate")
"""How files' experts become one tensor: matrix over matrix, and within each what several tensors have."""


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
    return Layout(
        model_type,
        (found,),
        TransformersConfig,
        lambda config: dict(_files(config.model_dump_json()).parts),
        _write,
        _read,
        copies=_copies,
        buffers=(".inv_freq", ".masked_bias", ".attn.bias", ".attention.bias"),
        renamed=lambda name: _spelling(model_type).older(name),
    )


def _copies(config: TransformersConfig) -> Mapping[str, str]:
    """A tied model may bring its table a second time, under the name of its output matrix."""
    files = _files(config.model_dump_json())
    return {} if files.output in files.parts else {files.output: files.table}


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


@dataclass(frozen=True)
class _Files:
    """What transformers' files of a model hold."""

    parts: Mapping[str, Part]
    output: str
    """Name of the output matrix, there or not."""
    table: str
    """Name of the table of tokens."""


@functools.lru_cache(maxsize=16)
def _files(config: str) -> _Files:
    """For a config (as JSON)."""
    with torch.device("meta"):
        model = TransformersModel(TransformersConfig.model_validate_json(config), 8)
    spelling = _spelling(str(model.config.values["model_type"]))
    parts: dict[str, Part] = {}
    for ours, parameter in model.named_parameters():
        name = f"{model.output}.weight" if ours == model.head_name else ours.removeprefix("body.")
        parts |= dict(spelling.parts(name, ours, tuple(parameter.shape)))
    table = spelling.written(model.embedding_name.removeprefix("body."))
    return _Files(parts, spelling.written(f"{model.output}.weight"), table)


@dataclass(frozen=True)
class _Spelling:
    """How files of a type call what its class calls otherwise."""

    read: Callable[[str], str]
    """A name in a file, of today or before -> the class's."""
    written: Callable[[str], str]
    """The class's name -> the one that transformers writes."""
    stacks: tuple[tuple[str, tuple[str, ...]], ...]
    """Part of the class's name of a stack, and what stands there in the names of its pieces, * for the matrix."""

    def older(self, name: str) -> str:
        """A name in a file -> the one that transformers writes today."""
        return self.written(self.read(name))

    def parts(self, name: str, ours: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Part]]:
        """What files hold of a parameter."""
        stack = next(((target, sources) for target, sources in self.stacks if target in name), None)
        if stack is None:
            yield self.written(name), Part((ours,))
            return
        target, sources = stack
        rows = shape[1] // len(sources)
        for matrix in range(shape[0]):
            for place, source in enumerate(sources):
                piece = (matrix, place * rows, (place + 1) * rows)
                yield self.written(name.replace(target, source.replace("*", str(matrix)))), Part((ours,), piece=piece)


@functools.lru_cache(maxsize=16)
def _spelling(model_type: str) -> _Spelling:
    """From transformers' table. Raises ModelFileError where files hold more than other names and stacks."""
    table: Any = importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping
    loading: Any = importlib.import_module("transformers.core_model_loading")
    steps = table(class_name(model_type)) or table(model_type) or []
    renamings = [step for step in steps if isinstance(step, loading.WeightRenaming)]
    back = [step.reverse_transform() for step in reversed(renamings)]
    stacks = [_stack(step, model_type) for step in steps if not isinstance(step, loading.WeightRenaming)]
    return _Spelling(
        lambda name: str(loading.apply_renamings(name, renamings)),
        lambda name: str(loading.apply_renamings(name, back)),
        tuple(stacks),
    )


def _stack(step: Any, model_type: str) -> tuple[str, tuple[str, ...]]:
    kinds = tuple(type(operation).__name__ for operation in step.operations)
    axes = [getattr(operation, "dim", None) for operation in step.operations]
    sources, targets = step._original_source_patterns, step._original_target_patterns
    sources, targets = ([each] if isinstance(each, str) else list(each) for each in (sources, targets))
    plain = not any("\\" in pattern for pattern in (*sources, *targets))
    if kinds not in (STACK, STACK[:1]) or axes != [0, 1][: len(axes)] or len(targets) != 1 or not plain:
        raise ModelFileError(f"files of {model_type} hold weights in another form than its class; not supported")
    return targets[0], tuple(sources)
