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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup import config, stage
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
DAMAGED = ".damaged"
"""Ending of a checkpoint that was fallen back from."""


def weights_file(checkpoint: Path) -> str:
    """Name of the file in a checkpoint whose weights are meant for use."""
    return AVERAGE if (checkpoint / AVERAGE).exists() else WEIGHTS


def full_weights(state: TrainState) -> dict[str, Tensor]:
    """What a checkpoint holds of the model, unsharded, on the CPU. Every rank must call it."""
    return {name: shard.full_tensor(p.detach()).cpu().contiguous() for name, p in state.kept.items()}


@dataclass(frozen=True)
class Snapshot:
    """What one checkpoint will hold: tensors by file, what is told beside them, and what they are a state of."""

    step: int
    files: Mapping[str, Mapping[str, Tensor]]
    content: Mapping[str, Any]
    identity: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors."""
        tensors = [value for content in self.files.values() for value in content.values()]
        return sum(value.numel() * value.element_size() for value in tensors)


def take(
    state: TrainState, extra: Mapping[str, Any], identity: Mapping[str, Any] | None = None, *, copied: bool
) -> Snapshot | None:
    """The state as it is now, `copied` where training goes on while it is written. Every rank must call it.

    Returns None on all ranks but the first, which has the whole tensors.
    """
    optimizer = {
        name: shard.full_tensor(value).cpu().contiguous() for name, value in flat_state(state.optimizer).items()
    }
    files = {WEIGHTS: full_weights(state), OPTIMIZER: optimizer}
    if copied and state.rank == 0:
        files = {file: {name: value.clone() for name, value in tensors.items()} for file, tensors in files.items()}
    if state.memory:
        files[MEMORY] = {name: shard.gathered_rows(kept, state.mesh).cpu() for name, kept in state.memory.items()}
    if state.average is not None or state.optimizer.averages:
        with weights_for_use(state.optimizer, state.average):
            # Copies: on a CPU these are the parameters themselves, which hold other values outside of this block.
            files[AVERAGE] = {name: value.clone() for name, value in full_weights(state).items()}
    if state.rank != 0:
        return None
    return Snapshot(state.step, files, {"step": state.step, **extra}, identity or {})


def save(folder: Path, state: TrainState, extra: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint of `state` under `folder`, prune all but the newest `keep`, and return its path."""
    snapshot = take(state, extra, copied=False)
    if snapshot is not None:
        require_room(folder, snapshot.size_bytes)
        write(folder, snapshot, keep)
    return folder / folder_name(state.step)


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def require_room(folder: Path, size_bytes: int) -> None:
    """Raise ResourceError where a checkpoint of so many bytes of tensors does not fit on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    stage.require_space(folder, int(size_bytes * 1.1), "a checkpoint")


def write(folder: Path, snapshot: Snapshot, keep: int, before_file: Callable[[], None] | None = None) -> Path:
    """Write a snapshot under `folder`, prune all but the newest `keep`; returns its path. `before_file`: each time."""
    target = folder / folder_name(snapshot.step)
    partial = folder / f"{target.name}.partial-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    partial.mkdir()
    try:
        for name, tensors in snapshot.files.items():
            if before_file is not None:
                before_file()
            _write_tensors(partial / name, tensors)
        content, identity = dict(snapshot.content), dict(snapshot.identity)
        stage.write_json(partial / STATE, content)
        about = {"stage": "checkpoint", "fingerprint": target.name, "summary": content}
        stage.seal(partial, {**about, **({"identity": identity} if identity else {})})
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        # Out of the way by one rename: a kill between two steps of a deletion would leave half a checkpoint.
        os.replace(target, folder / f"{target.name}.partial-{os.getpid()}-old")
    os.replace(partial, target)
    stage.fsync_folder(folder)
    remove_leftovers(folder)
    prune(folder, keep)
    return target


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file. Raises OSError where the system refuses, which safetensors only tells in words."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def remove_leftovers(folder: Path) -> None:
    """Remove what writers left that were killed; whoever calls it holds the stage's lock, so none of them lives."""
    for leftover in folder.glob("step-*.partial-*"):
        _remove_any(leftover)


def _remove_any(path: Path) -> None:
    """A folder with all in it, or a file that somebody gave a checkpoint's name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    remove(_candidates(folder)[keep:])


def remove(checkpoints: Sequence[Path]) -> None:
    """Delete these checkpoints."""
    for old in checkpoints:
        # Renamed first, so that a kill half-way through the deletion leaves no folder that looks like a checkpoint.
        doomed = old.with_name(f"{old.name}.partial-{os.getpid()}")
        os.replace(old, doomed)
        shutil.rmtree(doomed)


def _candidates(folder: Path) -> list[Path]:
    """Sealed checkpoint folders, newest first; anything else that lies about is left alone."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    return [path for path in sorted(named, reverse=True) if (path / stage.MANIFEST).is_file()]


def _warn_of_others(folder: Path, candidates: Sequence[Path]) -> None:
    """Say what lies among the checkpoints and is none, as the half of one without its manifest."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in there if path not in candidates and not path.name.endswith(DAMAGED)]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        shown = ", ".join(names[:5])
        logger.warning(f"{folder}: ignored, not complete checkpoints (no {stage.MANIFEST}): {shown}{more}")


def resume(
    folder: Path,
    state: TrainState,
    announced: bool,
    on_fallback: Callable[[Path, str], None],
    identity: Mapping[str, Any] | None = None,
    *,
    up_to: int | None = None,
) -> dict[str, Any] | None:
    """Load the newest good checkpoint into `state`; None when there never was one.

    `announced`: an earlier attempt said that it saved a checkpoint. `on_fallback(path, fault)` is told of each damaged
    one. `identity`: what the state must be one of. `up_to`: the newest of at most this step, else the oldest.
    Raises ModelFileError when checkpoints were there but none is good, or when the good one is of something else.
    """
    candidates = _candidates(folder)
    if up_to is not None:
        # Those that are too new come last, the oldest of them first.
        old = [path for path in candidates if step_of(path) <= up_to]
        candidates = old + [path for path in reversed(candidates) if path not in old]
    _warn_of_others(folder, candidates)
    faults = []
    for path in candidates:
        fault = _fault(path)
        if fault is None:
            _require_same(path, identity)
            return _load(path, state)
        logger.warning(f"{path}: damaged ({fault}); falling back to the one before")
        faults.append(f"{path.name}: {fault}")
        on_fallback(path, fault)
    if candidates or announced:
        raise ModelFileError(
            f"{folder}: no checkpoint is intact, and starting again from step 0 would hide it;"
            " restore one, or delete this folder's parent to start again",
            details=faults,
        )
    return None


def set_aside(damaged: Sequence[Path]) -> None:
    """Rename checkpoints that were fallen back from, so that they do not count as the newest, which are kept."""
    for path in damaged:
        aside = path.with_name(path.name + DAMAGED)
        if aside.exists():
            _remove_any(aside)
        os.replace(path, aside)


def remove_damaged(folder: Path) -> None:
    """Remove what was set aside, once the phase is at its end without it."""
    for path in folder.glob(f"step-*{DAMAGED}"):
        _remove_any(path)


def newest_identity(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint in `folder` says it is a state of; None without any."""
    for path in _candidates(folder):
        try:
            return dict(stage.read_manifest(path).get("identity") or {})
        except (DataError, ModelFileError):
            continue
    return None


def are_there(folder: Path) -> bool:
    """Whether a whole checkpoint lies in `folder`."""
    return bool(_candidates(folder))


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(path.name.removeprefix("step-"))


def newer_than(folder: Path, step: int) -> list[Path]:
    """Checkpoints of later steps, newest first."""
    return [path for path in _candidates(folder) if step_of(path) > step]


def _require_same(path: Path, identity: Mapping[str, Any] | None) -> None:
    """Raise ModelFileError, naming every field that differs, where a checkpoint is of something else."""
    saved = stage.read_manifest(path).get("identity")
    changes = config.differences(saved, json.loads(json.dumps(identity))) if saved and identity else []
    if changes:
        raise ModelFileError(
            f"{path.parent.parent.name[:40]}/{path.name}: made under other values, of which {len(changes)} differ:"
            f" {changes[0][:60]}; go back to them, or delete the folder to start again",
            details=changes,
        )


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
    if state.average is not None and content["step"]:  # before the first step there is no average
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
