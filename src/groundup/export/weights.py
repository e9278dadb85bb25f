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
ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
WHOLE_BYTES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Numbers that no weight is of; older files hold positions and masks so."""
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".distcp")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")
_PATH_CHARACTERS = 60


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor: where it lies, its dtype code (as in the file format) and its shape."""

    path: Path
    dtype: str
    shape: tuple[int, ...]


def fault(path: Path, text: str) -> ModelFileError:
    """A ModelFileError that names `path` (its end, when it is long) and leaves room for the rest of the line."""
    name = str(path)
    shown = name if len(name) <= _PATH_CHARACTERS else "..." + name[3 - _PATH_CHARACTERS :]
    return ModelFileError(f"{shown}: {text}")


def find_weights(folder: Path, unread: tuple[str, ...] = ()) -> dict[str, TensorFacts]:
    """All tensors that the weight files of `folder` declare, headers checked.

    `unread`: ends of names of tensors that say nothing, which may be whole numbers too. Raises ModelFileError when
    there is no safetensors file, or one is damaged, truncated or contradictory.
    """
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS, unread)
    if (folder / INDEX).is_file():
        return _read_shards(folder, unread)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_ENDINGS)
    if pickles:
        raise fault(folder / pickles[0], f"a pickle can run code when opened, so it is not; convert it to {WEIGHTS}")
    raise fault(folder, f"no {WEIGHTS} here; give a folder with a Hugging Face model, or a run")


def _read_shards(folder: Path, unread: tuple[str, ...]) -> dict[str, TensorFacts]:
    """Tensors over all shard files that the index names; each must lie in the folder under a plain name."""
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise fault(index, "no 'weight_map'; export the model again")
    facts: dict[str, TensorFacts] = {}
    for name in sorted({str(value) for value in weight_map.values()}):
        if not _SHARD_NAME.fullmatch(name):
            raise fault(index, f"'{name[:50]}' is no plain name of a shard in this folder; refused, export it again")
        if not (folder / name).is_file():
            raise fault(index, f"shard {name[:50]} is missing; copy the whole folder again")
        for tensor, found in read_header(folder / name, unread).items():
            if tensor in facts:
                raise fault(folder / name, f"tensor '{tensor[:50]}' is in two shards; export the model again")
            facts[tensor] = found
    wrong = [tensor for tensor, name in weight_map.items() if tensor not in facts or facts[tensor].path.name != name]
    if wrong:
        raise fault(index, f"tensor '{wrong[0][:50]}' is not where the index says; export the model again")
    return facts


def read_header(path: Path, unread: tuple[str, ...] = ()) -> dict[str, TensorFacts]:
    """The tensors that one safetensors file declares. Raises ModelFileError on any departure from the format.

    `unread`: as `find_weights` has it.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        if len(start) < 8:
            raise fault(path, f"{size} bytes is too short for a safetensors file; copy it again")
        (length,) = struct.unpack("<Q", start)
        if length > min(HEADER_LIMIT_BYTES, size - 8):
            raise fault(
                path, f"its header claims {length} bytes, the file has {size}; cut off or damaged, copy it again"
            )
        header = _parse(handle.read(length), path)
    header.pop("__metadata__", None)
    facts = {}
    spans = []
    for name, entry in header.items():
        known = ELEMENT_BYTES | WHOLE_BYTES if name.endswith(unread) else ELEMENT_BYTES
        facts[name], span = _tensor_facts(path, name, entry, known)
        spans.append((*span, name))
    _check_spans(path, sorted(spans), size - 8 - length)
    return facts


def _tensor_facts(
    path: Path, name: str, entry: Any, element_bytes: Mapping[str, int]
) -> tuple[TensorFacts, tuple[int, int]]:
    """One entry of a header, checked by itself: known dtype, shape x dtype = bytes."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise fault(path, f"tensor '{name[:50]}' lacks dtype, shape or offsets; copy the file again") from None
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise fault(path, f"tensor '{name[:50]}' has no usable shape or offsets; copy the file again")
    if not isinstance(dtype, str) or dtype not in element_bytes:
        raise fault(path, f"tensor '{name[:50]}' is {str(dtype)[:12]}; read are {', '.join(ELEMENT_BYTES)}: convert it")
    if math.prod(shape) * element_bytes[dtype] != end - begin:
        raise fault(
            path, f"tensor '{name[:50]}': {str(shape)[:30]} x {dtype} is not {end - begin} bytes; copy it again"
        )
    return TensorFacts(path, dtype, tuple(shape)), (begin, end)


def _check_spans(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    """The tensors must cover the data exactly: no gap, no overlap, nothing behind the last."""
    position = 0
    for begin, end, name in spans:
        if begin != position:
            what = "overlaps another tensor" if begin < position else "leaves a gap before it"
            raise fault(path, f"tensor '{name[:50]}' {what}; the file is damaged, copy it again")
        position = end
    if position > data_bytes:
        raise fault(path, f"{position} bytes of weights declared, {data_bytes} are there; cut off, copy it again")
    if position < data_bytes:
        raise fault(path, f"{data_bytes - position} bytes behind the last tensor; refused, copy it again")


class TensorFiles:
    """The weights themselves, each read when it is asked for, in the dtype of the file."""

    def __init__(self, facts: Mapping[str, TensorFacts]) -> None:
        self._facts = facts
        self._open: dict[Path, Any] = {}

    def read(self, name: str) -> Tensor:
        """One tensor. Raises ModelFileError when it cannot be read, or holds NaN or infinity."""
        path = self._facts[name].path
        try:
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            tensor: Tensor = self._open[path].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise fault(path, f"{str(error).splitlines()[0][:80]}; copy the file again") from None
        return finite(tensor, name, path)


def finite(tensor: Tensor, name: str, path: Path) -> Tensor:
    """The tensor, if all of it is finite. Raises ModelFileError."""
    if not torch.isfinite(tensor).all():
        raise fault(path, f"weight '{name[:50]}' holds NaN or infinity; take an earlier model")
    return tensor


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder. Raises ModelFileError when it is missing or no such thing."""
    if not path.is_file():
        raise fault(path.parent, f"no {path.name} here; give a folder with a Hugging Face model, or a run")
    if path.stat().st_size > HEADER_LIMIT_BYTES:
        raise fault(path, f"{path.stat().st_size} bytes is too long for this file; refused, export the model again")
    return _parse(path.read_bytes(), path)


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    """JSON object without duplicate keys: which of two would hold is anyone's guess."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise fault(path, f"'{twice[:50]}' appears twice; refused, export the model again")
        return result

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise fault(path, f"not readable as JSON ({str(error)[:50]}); copy the file again") from None
    if not isinstance(value, dict):
        raise fault(path, f"a JSON object is expected here, not a {type(value).__name__}; copy the file again")
    return value
