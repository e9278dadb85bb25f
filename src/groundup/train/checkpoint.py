"""Checkpoints: training state <-> folder with hashes. Fresh folder, fsync, manifest last, rename; newest good one wins.

    checkpoints/step-00000120/   model.safetensors  optimizer.safetensors  state.json  manifest.json, and others
    of several ranks             model-00000-of-00002.safetensors ...  parts.json (which part of what lies where)

Invariant: a folder of this name with a manifest is whole or is found damaged by its hashes before anything in it is
opened; a resume never starts from step 0 when a checkpoint was once announced. Any layout reads what any other wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.distributed.device_mesh import DeviceMesh

from groundup import config, sharded, stage
from groundup.errors import DataError, ModelFileError
from groundup.log import logger
from groundup.optim import load_flat_state
from groundup.parallel.exchange import texts_of_all
from groundup.sharded import Box
from groundup.train.consolidation import consolidate
from groundup.train.folders import (
    are_there,
    candidates,
    folder_name,
    newer_than,
    prune,
    remove,
    remove_damaged,
    remove_leftovers,
    require_room,
    set_aside,
    step_of,
    warn_of_others,
)
from groundup.train.loading import load_tensors
from groundup.train.saving import Saver
from groundup.train.snapshot import AVERAGE, MEMORY, OPTIMIZER, WEIGHTS
from groundup.train.state import TrainState
from groundup.train.stored import read_tensors, stored_tensors
from groundup.train.writing import STATE

__all__ = [
    "AVERAGE",
    "MEMORY",
    "OPTIMIZER",
    "STATE",
    "WEIGHTS",
    "ModelFileError",
    "are_there",
    "consolidate",
    "folder_name",
    "newer_than",
    "newest_identity",
    "prune",
    "read_tensors",
    "remove",
    "remove_damaged",
    "remove_leftovers",
    "require_room",
    "resume",
    "save",
    "set_aside",
    "step_of",
    "weights_file",
]


def weights_file(checkpoint: Path) -> str:
    """Name of the file in a checkpoint whose weights are meant for use."""
    in_parts = any(checkpoint.glob(f"{Path(AVERAGE).stem}-*"))
    return AVERAGE if in_parts or (checkpoint / AVERAGE).exists() else WEIGHTS


def save(folder: Path, state: TrainState, extra: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint of `state` under `folder`, prune all but the newest `keep`, and return its path.

    Every rank must call it.
    """
    Saver(folder, keep, False, on_saved=lambda path: None, on_failed=lambda step, fault: None).save(state, extra, {})
    return folder / folder_name(state.step)


def resume(
    folder: Path,
    state: TrainState,
    announced: bool,
    on_fallback: Callable[[Path, str], None],
    identity: Mapping[str, Any] | None = None,
    *,
    up_to: int | None = None,
) -> dict[str, Any] | None:
    """Load the newest good checkpoint into `state`; None when there never was one. Every rank must call it.

    `announced`: an earlier attempt said that it saved a checkpoint. `on_fallback(path, fault)` is told of each damaged
    one. `identity`: what the state must be one of. `up_to`: the newest of at most this step, else the oldest.
    Raises ModelFileError when checkpoints were there but none is good, or when the good one is of something else.
    """
    # What the first rank sees counts: it is the one that tidies up.
    seen = texts_of_all(json.dumps([path.name for path in candidates(folder)]), state.mesh)[0]
    found = [folder / name for name in json.loads(seen)]
    if up_to is not None:
        # Those that are too new come last, the oldest of them first.
        old = [path for path in found if step_of(path) <= up_to]
        found = old + [path for path in reversed(found) if path not in old]
    warn_of_others(folder, found)
    faults = []
    for path in found:
        fault = _fault(path, state.mesh)
        if fault is None:
            _require_same(path, identity)
            return _load(path, state)
        logger.warning(f"{path}: damaged ({fault}); falling back to the one before")
        faults.append(f"{path.name}: {fault}")
        on_fallback(path, fault)
    if found or announced:
        raise ModelFileError(
            f"{folder}: no checkpoint is intact, and starting again from step 0 would hide it;"
            " restore one, or delete this folder's parent to start again",
            details=faults,
        )
    return None


def newest_identity(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint in `folder` says it is a state of; None without any."""
    for path in candidates(folder):
        try:
            return dict(stage.read_manifest(path).get("identity") or {})
        except (DataError, ModelFileError):
            continue
    return None


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


def _fault(path: Path, mesh: DeviceMesh | None) -> str | None:
    """What is wrong with a checkpoint; each rank hashes its share of the files (a collective)."""
    share = (mesh.get_rank(), mesh.size()) if mesh is not None else (0, 1)
    own: dict[str, Any] = {"seen": path.is_dir(), "faults": []}
    try:
        own["faults"] = stage.faults_of(path, stage.read_manifest(path), share)
    except (DataError, ModelFileError) as error:
        own["faults"] = [error.message]
    heard = [json.loads(text) for text in texts_of_all(json.dumps(own), mesh)]
    blind = next((rank for rank, each in enumerate(heard) if not each["seen"]), None)
    if blind is not None and len(heard) > 1:
        raise ModelFileError(
            f"{path.parent.parent.name[:40]}/{path.name}: rank {blind} does not see it, rank 0 does;"
            " runtime.workdir must be one folder that all machines share"
        )
    faults = sorted({fault for each in heard for fault in each["faults"]})
    if faults:
        return "; ".join(faults[:3])
    try:
        sharded.check(path)  # opened only now that the hashes hold
    except ModelFileError as error:
        return error.message
    return None


def _load(path: Path, state: TrainState) -> dict[str, Any]:
    """Fill the state, each rank with its own part; what other ranks have alone (a pipeline's layers) is left out."""
    content: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    optimizer, elsewhere = stored_tensors(path, OPTIMIZER), state.model.elsewhere
    theirs = tuple(f"{name}." for name in elsewhere)
    load_flat_state(state.optimizer, {key: value for key, value in optimizer.items() if not key.startswith(theirs)})
    load_tensors(state.kept, stored_tensors(path, WEIGHTS), elsewhere)
    if state.average is not None and content["step"]:  # before the first step there is no average
        state.average.values = {name: p.detach().clone() for name, p in state.average.parameters.items()}
        found = stored_tensors(path, AVERAGE)  # with what never moved, where checkpoints hold that too
        load_tensors(state.average.values, {name: found[name] for name in state.average.values if name in found})
    if state.memory:
        _load_memory(path, state)
    state.step = int(content["step"])
    return content


def _load_memory(path: Path, state: TrainState) -> None:
    """This rank's rows of what the model carried, by their numbers in the global batch."""
    whole = stored_tensors(path, MEMORY)
    for name, kept in state.memory.items():
        first, found = state.data_rank * len(kept), whole.get(name)
        if found is None or found.shape != (len(kept) * state.data_size, *kept.shape[1:]):
            what = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise ModelFileError(
                f"{path / MEMORY}: the model's memory {name!r} {what}; go on with the model that wrote it"
            )
        kept.copy_(found.read(Box.whole(found.shape).rows(first, len(kept))))
