"""A training state -> what one checkpoint of it holds: tensors by file and what is told beside them.

    model.safetensors      optimizer.safetensors      (where some weights are given again: what learns)
    memory.safetensors     what the model carries from step to step, where it does
    average.safetensors    the weights meant for use, where they are others

Invariant: one process has whole tensors; of several each has the parts that it will write, and no whole tensor is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from groundup.optim import flat_state
from groundup.parallel import shard
from groundup.sharded import Index
from groundup.train.average import weights_for_use
from groundup.train.folders import folder_name
from groundup.train.partition import Planner, held_of_memory, held_of_optimizer, held_of_weights, own_parts
from groundup.train.state import TrainState

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
AVERAGE = "average.safetensors"
MEMORY = "memory.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """What one checkpoint will hold: tensors by file, what is told beside them, and what they are a state of.

    `index`: of all ranks' parts; the files are this rank's then. None where one process has whole tensors.
    """

    step: int
    files: Mapping[str, Mapping[str, Tensor]]
    content: Mapping[str, Any]
    identity: Mapping[str, Any]
    index: Index | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors, of all ranks together."""
        if self.index is not None:
            return self.index.size_bytes
        tensors = [value for content in self.files.values() for value in content.values()]
        return sum(value.numel() * value.element_size() for value in tensors)

    @property
    def about(self) -> dict[str, Any]:
        """What its manifest says beside the files."""
        content, identity = dict(self.content), dict(self.identity)
        about = {"stage": "checkpoint", "fingerprint": folder_name(self.step), "summary": content}
        return {**about, **({"identity": identity} if identity else {})}


def take(
    state: TrainState,
    extra: Mapping[str, Any],
    identity: Mapping[str, Any] | None = None,
    *,
    copied: bool,
    planner: Planner | None = None,
) -> Snapshot:
    """The state as it is now, `copied` where training goes on while it is written. Every rank must call it.

    `planner`: of an earlier one of the same state, which saves asking all ranks again what they hold.
    """
    content = {"step": state.step, **extra}
    if state.world_size > 1:
        files, index = _parts(state, planner or Planner(), copied)
        return Snapshot(state.step, files, content, identity or {}, index)
    return Snapshot(state.step, _whole(state, copied), content, identity or {})


def _has_average(state: TrainState) -> bool:
    return state.average is not None or bool(state.optimizer.averages)


def _whole(state: TrainState, copied: bool) -> dict[str, dict[str, Tensor]]:
    optimizer = {
        name: shard.full_tensor(value).cpu().contiguous() for name, value in flat_state(state.optimizer).items()
    }
    files = {WEIGHTS: _weights(state), OPTIMIZER: optimizer}
    if copied:
        files = {file: {name: value.clone() for name, value in tensors.items()} for file, tensors in files.items()}
    if state.memory:
        files[MEMORY] = {name: kept.detach().clone().cpu() for name, kept in state.memory.items()}
    if _has_average(state):
        with weights_for_use(state.optimizer, state.average):
            # Copies: on a CPU these are the parameters themselves, which hold other values outside of this block.
            files[AVERAGE] = {name: value.clone() for name, value in _weights(state).items()}
    return files


def _weights(state: TrainState) -> dict[str, Tensor]:
    """What a checkpoint holds of the model, whole, on the CPU."""
    return {name: shard.full_tensor(p.detach()).cpu().contiguous() for name, p in state.kept.items()}


def _parts(state: TrainState, planner: Planner, copied: bool) -> tuple[dict[str, dict[str, Tensor]], Index]:
    """This rank's files, and the index of all ranks' (a collective)."""
    assert state.mesh is not None, "several ranks have a mesh"
    held = {WEIGHTS: held_of_weights(state), OPTIMIZER: held_of_optimizer(state)}
    if state.memory:
        held[MEMORY] = held_of_memory(state)
    if _has_average(state):
        held[AVERAGE] = held[WEIGHTS]  # the same places, which hold the average inside of the block below
    index = planner.index(held, state.mesh)
    files: dict[str, dict[str, Tensor]] = {}
    for file in held.keys() - {AVERAGE}:
        # What the model carries is written over in place by the next step.
        files |= own_parts(index, file, held[file], state.rank, copied=copied or file == MEMORY)
    if AVERAGE in held:
        with weights_for_use(state.optimizer, state.average):
            files |= own_parts(index, AVERAGE, held[AVERAGE], state.rank, copied=True)
    return dict(sorted(files.items())), index
