"""safetensors files of a model folder -> tensors by name; the headers are checked before a byte of weights is read.

    model.safetensors, or model.safetensors.index.json -> shard files
        |  header: length, JSON without duplicate names, dtypes, shapes, offsets that cover the file exactly
        v
    {name: TensorFacts}   -> compared with what the architecture asks for, by the caller
        |  read
        v
    {name: Tensor}        every element finite

Invariant: nothing is unpickled, no path leaves the folder, and no memory is taken on the word of an unchecked header.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from groundup.errors import ModelFileError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEADER_LIMIT_BYTES = 100_000_000
ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".distcp")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor: where it lies, its dtype code (as in the file format) and its shape."""

    path: Path
    dtype: str
    shape: tuple[int, ...]


def find_weights(folder: Path) -> dict[str, TensorFacts]:
    """All tensors that the weight files of `folder` declare, headers checked.

    Raises ModelFileError when there is no safetensors file, or one is damaged, truncated or contradictory.
    """
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_ENDINGS) if folder.is_dir() else []
    if pickles:
        raise ModelFileError(
            f"{folder.name}: {pickles[0]} is a pickle, which can run code when opened; convert it to {WEIGHTS} "
            "(save_pretrained of a recent transformers, on a machine you can lose)"
        )
    raise ModelFileError(f"{folder}: no {WEIGHTS} here; give a folder with a Hugging Face model or a run")


def _read_shards(folder: Path) -> dict[str, TensorFacts]:
    """Tensors over all shard files that the index names; each must lie in the folder under a plain name."""
    index = read_json(folder / INDEX)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{folder / INDEX}: no 'weight_map'; export the model again")
    facts: dict[str, TensorFacts] = {}
    for name in sorted({str(value) for value in weight_map.values()}):
        if not _SHARD_NAME.fullmatch(name):
            raise ModelFileError(f"{folder / INDEX}: shard '{name[:60]}' is no plain file name in the folder; refused")
        if not (folder / name).is_file():
            raise ModelFileError(f"{folder / INDEX}: shard {name} is missing; copy the whole folder again")
        for tensor, found in read_header(folder / name).items():
            if tensor in facts:
                raise ModelFileError(f"{folder / name}: tensor '{tensor[:60]}' is in two shards; export the model again")
            facts[tensor] = found
    wrong = [tensor for tensor, name in weight_map.items() if tensor not in facts or facts[tensor].path.name != name]
    if wrong:
        raise ModelFileError(f"{folder / INDEX}: tensor '{wrong[0][:60]}' is not where the index says; export it again")
    return facts


def read_header(path: Path) -> dict[str, TensorFacts]:
    """The tensors that one safetensors file declares. Raises ModelFileError on any departure from the format."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        if len(start) < 8:
            raise ModelFileError(f"{path}: {size} bytes, too short for a safetensors file; copy it again")
        (length,) = struct.unpack("<Q", start)
        if length > min(HEADER_LIMIT_BYTES, size - 8):
            raise ModelFileError(
                f"{path}: its header claims {length} bytes, the file has {size}; it is cut off or damaged, copy it again"
            )
        header = _parse(handle.read(length), path)
    header.pop("__metadata__", None)
    facts = {}
    spans = []
    for name, entry in header.items():
        facts[name], span = _tensor_facts(path, name, entry)
        spans.append((*span, name))
    _check_spans(path, sorted(spans), size - 8 - length)
    return facts


def _tensor_facts(path: Path, name: str, entry: Any) -> tuple[TensorFacts, tuple[int, int]]:
    """One entry of a header, checked by itself: known dtype, shape x dtype = bytes."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(f"{path}: tensor '{name[:60]}' lacks dtype, shape or offsets; copy the file again") from None
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if dtype not in ELEMENT_BYTES or any(type(n) is not int or n < 0 for n in numbers):
        raise ModelFileError(f"{path}: tensor '{name[:60]}': dtype {str(dtype)[:20]!r} or its shape is not supported")
    if math.prod(shape) * ELEMENT_BYTES[dtype] != end - begin:
        raise ModelFileError(
            f"{path}: tensor '{name[:60]}': shape {shape} as {dtype} does not make {end - begin} bytes; copy it again"
        )
    return TensorFacts(path, dtype, tuple(shape)), (begin, end)


def _check_spans(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    """The tensors must cover the data exactly: no gap, no overlap, nothing behind the last."""
    position = 0
    for begin, end, name in spans:
        if begin != position:
            fault = "overlaps another tensor" if begin < position else "leaves a gap before it"
            raise ModelFileError(f"{path}: tensor '{name[:60]}' {fault}; the file is damaged, copy it again")
        position = end
    if position > data_bytes:
        raise ModelFileError(f"{path}: {position} bytes of weights declared, {data_bytes} there; cut off, copy it again")
    if position < data_bytes:
        raise ModelFileError(f"{path}: {data_bytes - position} bytes behind the last tensor; refused, copy it again")


def read_tensors(facts: Mapping[str, TensorFacts]) -> dict[str, Tensor]:
    """The weights themselves, in the dtype of the file. Raises ModelFileError on NaN or infinity."""
    tensors: dict[str, Tensor] = {}
    for path in sorted({fact.path for fact in facts.values()}):
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path}: {str(error).splitlines()[0][:100]}; copy the file again") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelFileError(f"{facts[name].path}: weight '{name[:60]}' holds NaN or infinity; take an earlier model")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder. Raises ModelFileError when it is missing or no such thing."""
    if not path.is_file():
        raise ModelFileError(f"{path.parent}: no {path.name}; give a folder with a Hugging Face model or a run")
    if path.stat().st_size > HEADER_LIMIT_BYTES:
        raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too long for this file; refused")
    return _parse(path.read_bytes(), path)


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    """JSON object without duplicate keys: which of two would hold is anyone's guess."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelFileError(f"{path}: '{twice[:60]}' appears twice; refused, export the model again")
        return result

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not readable as JSON ({str(error)[:60]}); copy the file again") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: a JSON object is expected here, not a {type(value).__name__}")
    return value
