"""Checkpoints: training state <-> folder with hashes. Fresh folder, fsync, manifest last, rename; newest good one wins.

    checkpoints/step-00000120/   model.safetensors  optimizer.safetensors  state.json  manifest.json
                                 (of a model that partly learns from weights given again: the part that learns)
                                 memory.safetensors (what the model carries from step to step, where it does)
                                 average.safetensors (the weights meant for use, where they are others)

Invariant: a folder of this name with a manifest is whole or is found damaged by its hashes before anything in it is
opened; a resume never starts from step 0 when a checkpoint was once announced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup import stage
from groundup.errors import DataError, ModelFileError
from groundup.log import logger
from groundup.optim import flat_state, load_flat_state
from groundup.parallel import shard
from groundup.train.average import weights_for_use
from groundup.train.state import TrainState, load_tensors

NAME = re.compile(r"step-(\d{8})")
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
AVERAGE = "average.safetensors"
MEMORY = "memory.safetensors"
STATE = "state.json"


def weights_file(checkpoint: Path) -> str:
    """Name of the file in a checkpoint whose weights are meant for use."""
    return AVERAGE if (checkpoint / AVERAGE).exists() else WEIGHTS


def full_weights(state: TrainState) -> dict[str, Tensor]:
    """What a checkpoint holds of the model, unsharded, on the CPU. Every rank must call it."""
    return {name: shard.full_tensor(p.detach()).cpu().contiguous() for name, p in state.kept.items()}


def save(folder: Path, state: TrainState, extra: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint of `state` under `folder`, prune all but the newest `keep`, and return its path."""
    weights = full_weights(state)
    optimizer = {
        name: shard.full_tensor(value).cpu().contiguous() for name, value in flat_state(state.optimizer).items()
    }
    files = {WEIGHTS: weights, OPTIMIZER: optimizer}
    if state.memory:
        files[MEMORY] = {name: shard.gathered_rows(kept, state.mesh).cpu() for name, kept in state.memory.items()}
    if state.average is not None or state.optimizer.averages:
        with weights_for_use(state.optimizer, state.average):
            # Copies: on a CPU these are the parameters themselves, which hold other values outside of this block.
            files[AVERAGE] = {name: value.clone() for name, value in full_weights(state).items()}
    target = folder / f"step-{state.step:08d}"
    if state.rank == 0:
        tensors = [value for content in files.values() for value in content.values()]
        needed = sum(value.numel() * value.element_size() for value in tensors)
        folder.mkdir(parents=True, exist_ok=True)
        stage.require_space(folder, int(needed * 1.1), "a checkpoint")
        _write(folder, target, files, {"step": state.step, **extra})
        prune(folder, keep)
    return target


def _write(folder: Path, target: Path, files: dict[str, dict[str, Tensor]], content: dict[str, Any]) -> None:
    partial = folder / f"{target.name}.partial-{os.getpid()}"
    for leftover in folder.glob("step-*.partial-*"):
        shutil.rmtree(leftover)
    partial.mkdir()
    try:
        for name, tensors in files.items():
            save_file(tensors, partial / name, metadata={"format": "pt"})
            (partial / name).chmod(0o644)  # safetensors makes files that only their owner may read
        stage.write_json(partial / STATE, content)
        stage.seal(partial, {"stage": "checkpoint", "fingerprint": target.name, "summary": content})
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    os.replace(partial, target)
    stage.fsync_folder(folder)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in _candidates(folder)[keep:]:
        # Renamed first, so that a kill half-way through the deletion leaves no folder that looks like a checkpoint.
        doomed = old.with_name(f"{old.name}.partial-{os.getpid()}")
        os.replace(old, doomed)
        shutil.rmtree(doomed)


def _candidates(folder: Path) -> list[Path]:
    """Sealed checkpoint folders, newest first; anything else that lies about is left alone."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir(), reverse=True):
        if not (NAME.fullmatch(path.name) and path.is_dir()):
            continue
        if (path / stage.MANIFEST).is_file():
            found.append(path)
        else:
            logger.warning(f"{path}: ignored, it is not a complete checkpoint (no {stage.MANIFEST})")
    return found


def resume(
    folder: Path, state: TrainState, announced: bool, on_fallback: Callable[[Path, str], None]
) -> dict[str, Any] | None:
    """Load the newest good checkpoint into `state`; None when there never was one.

    `announced`: an earlier attempt said that it saved a checkpoint. `on_fallback(path, fault)` is told of each damaged
    one. Raises ModelFileError when checkpoints were there but none is good.
    """
    candidates = _candidates(folder)
    for path in candidates:
        fault = _fault(path)
        if fault is None:
            return _load(path, state)
        logger.warning(f"{path}: damaged ({fault}); falling back to the one before")
        on_fallback(path, fault)
    if candidates or announced:
        raise ModelFileError(
            f"{folder}: no checkpoint is intact, and starting again from step 0 would hide it;"
            " restore one, or delete this folder's parent to start again"
        )
    return None


def _fault(path: Path) -> str | None:
    try:
        _, faults = stage.verify(path)
    except (DataError, ModelFileError) as error:
        return error.message
    return "; ".join(faults[:3]) or None


def _load(path: Path, state: TrainState) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    load_flat_state(state.optimizer, read_tensors(path / OPTIMIZER))
    load_tensors(state.kept, read_tensors(path / WEIGHTS))
    if state.average is not None:
        state.average.values = {name: p.detach().clone() for name, p in state.average.parameters.items()}
        found = read_tensors(path / AVERAGE)  # with what never moved, where checkpoints hold that too
        load_tensors(state.average.values, {name: found[name] for name in state.average.values if name in found})
    if state.memory:
        _load_memory(path / MEMORY, state)
    state.step = int(content["step"])
    return content


def _load_memory(path: Path, state: TrainState) -> None:
    """This rank's rows of what the model carried, by their numbers in the global batch."""
    whole = read_tensors(path)
    for name, kept in state.memory.items():
        first, found = state.rank * len(kept), whole.get(name)
        if found is None or found.shape != (len(kept) * state.world_size, *kept.shape[1:]):
            what = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise ModelFileError(f"{path}: the model's memory {name!r} {what}; go on with the model that wrote it")
        kept.copy_(found[first : first + len(kept)])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ModelFileError when it is damaged or holds NaN or infinity."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read as safetensors ({str(error)[:80]}); restore it") from None
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelFileError(f"{path}: tensor {name} holds NaN or infinity; use an earlier checkpoint")
    return tensors
