"""Our tensors -> safetensors files in a Hugging Face layout, one file's worth in memory at a time.

    {our name: tensor} --layout--> model.safetensors, or model-00001-of-0000N.safetensors ... with an index

Invariant: a file is written beside its place and renamed, the index last; files of an earlier export that are no longer
meant are removed, so a folder never holds two models.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from groundup.export.weights import INDEX, WEIGHTS
from groundup.models import NetworkConfig, huggingface_shapes, huggingface_tensors
from groundup.stage import fsync_file, require_space, write_json


def write_weights(
    config: NetworkConfig,
    vocab_size: int,
    state: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype,
    max_shard_bytes: int,
) -> None:
    """Write the weights with all training tricks folded in. Raises ResourceError when they do not fit the disk."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape in huggingface_shapes(config, vocab_size).items()}
    require_space(folder, sum(sizes.values()), "the exported model")
    for earlier in (folder / INDEX, *folder.glob("model-*-of-*.safetensors")):
        earlier.unlink(missing_ok=True)
    shards = _shards(sizes, max_shard_bytes)
    place = {name: number for number, names in enumerate(shards, start=1) for name in names}
    held: dict[str, Tensor] = {}
    for name, tensor in huggingface_tensors(config, state):
        written = tensor.to("cpu", dtype).contiguous()
        shared = any(written.data_ptr() == other.data_ptr() for other in held.values())
        held[name] = written.clone() if shared else written  # a file holds what two names share twice
        number = place[name]
        if len(held) == len(shards[number - 1]):
            _save(held, folder / _file_name(number, len(shards)))
            held = {}
    if len(shards) > 1:
        (folder / WEIGHTS).unlink(missing_ok=True)
        weight_map = {name: _file_name(number, len(shards)) for name, number in place.items()}
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _shards(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Names of the tensors of each file, in order; a tensor that is larger than a file has one of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _file_name(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    # The format has no tensors that share memory, and some layouts write one twice.
    owner = {tensor.data_ptr(): name for name, tensor in tensors.items()}
    alone = {name: t if owner[t.data_ptr()] == name else t.clone() for name, t in tensors.items()}
    save_file(alone, temporary, {"format": "pt"})
    temporary.chmod(0o644)  # safetensors makes files that only their owner may read
    fsync_file(temporary)
    os.replace(temporary, path)
