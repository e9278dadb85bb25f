"""A training state over several ranks -> who writes which part of which tensor, and those parts.

    held on this rank: {file: {name: box, type}} --all ranks hear all--> one index, the same on every rank
        a box that several ranks hold (copies of the model, vectors of a tensor parallel layer) is divided among them
    index -> this rank's parts, copied: memory for what it writes, never for a whole tensor

Invariant: the parts of the index give each number of each tensor once; what lies only on some ranks (a pipeline's
layers) is written by those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from groundup.errors import ModelFileError
from groundup.optim import flat_state
from groundup.optim.gathering import added_up
from groundup.parallel.exchange import texts_of_all
from groundup.parallel.held import box_held
from groundup.parallel.shard import local_tensor
from groundup.sharded import DTYPE_BYTES, Box, Entry, Index, Part, part_file
from groundup.sharded.index import index_fault, key_of
from groundup.train.state import TrainState
from groundup.train.stored import CODES

DIVIDED_BYTES = 2**20
"""A box that several ranks hold is divided among them where each gets at least this much."""


@dataclass(frozen=True)
class Held:
    """A part of a whole tensor of `shape`: its box, and the numbers in it."""

    shape: tuple[int, ...]
    box: Box
    local: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> Held:
        """This rank's part of a tensor. A collective for one whose parts are still to be added up."""
        settled = added_up(tensor.detach())
        return cls(tuple(settled.shape), box_held(settled), local_tensor(settled))

    def part(self, box: Box, copied: bool) -> Tensor:
        """The numbers of a box inside, on the CPU."""
        found = self.local[box.inside(self.box)]
        return found.clone(memory_format=torch.contiguous_format).cpu() if copied else found.contiguous().cpu()


Files = Mapping[str, Mapping[str, Held]]
"""Whole file -> tensor -> what this rank holds of it."""


def held_of_optimizer(state: TrainState) -> dict[str, Held]:
    """This rank's part of all that the optimizer keeps."""
    return {name: Held.of(value) for name, value in flat_state(state.optimizer).items()}


def held_of_weights(state: TrainState) -> dict[str, Held]:
    """This rank's part of the weights that a checkpoint holds."""
    return {name: Held.of(parameter) for name, parameter in state.kept.items()}


def held_of_memory(state: TrainState) -> dict[str, Held]:
    """This rank's rows of what the model carries from step to step."""
    return {
        name: Held(
            (len(kept) * state.data_size, *kept.shape[1:]),
            Box((state.data_rank * len(kept), *(0,) * (kept.ndim - 1)), tuple(kept.shape)),
            kept,
        )
        for name, kept in state.memory.items()
    }


class Planner:
    """Makes the index of each save; the one before serves again while no rank holds anything else."""

    def __init__(self) -> None:
        self._own = ""
        self._index: Index | None = None

    def index(self, files: Files, mesh: DeviceMesh) -> Index:
        """Who writes what, the same on all ranks (a collective over all of them)."""
        own = json.dumps(
            {
                file: {name: [CODES[h.local.dtype], h.shape, h.box.offset, h.box.shape] for name, h in tensors.items()}
                for file, tensors in files.items()
            }
        )
        same = self._index is not None and own == self._own
        if self._index is None or not all(text == "same" for text in texts_of_all("same" if same else "", mesh)):
            self._index = divide([json.loads(text) for text in texts_of_all(own, mesh)])
            self._own = own
        return self._index


def divide(held: Sequence[Mapping[str, Mapping[str, Sequence[object]]]]) -> Index:
    """By rank {file: {name: [type, shape, offset and shape of the box]}} -> the index, with equal work for all.

    Raises ModelFileError where what is held does not make up whole tensors.
    """
    facts: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {}
    holders: dict[tuple[str, str, Box], list[int]] = {}
    for rank, files in enumerate(held):
        for file, tensors in files.items():
            for name, (dtype, shape, offset, size) in tensors.items():
                facts.setdefault((file, name), (str(dtype), _tuple(shape)))
                box = Box(_tuple(offset), _tuple(size))
                if box.count:
                    holders.setdefault((file, name, box), []).append(rank)
    written: dict[tuple[str, str], list[Part]] = {key: [] for key in facts}
    load = [0] * len(held)
    for (file, name, box), ranks in sorted(holders.items(), key=lambda each: (len(each[1]) > 1, each[0])):
        width = DTYPE_BYTES[facts[file, name][0]]
        pieces = min(len(ranks), max(1, box.count * width // DIVIDED_BYTES))
        for piece in box.divided(pieces):
            writer = min(ranks, key=lambda rank: (load[rank], rank))
            load[writer] += piece.count * width
            written[file, name].append(Part(part_file(file, writer, len(held)), piece))
    files_of_all = dict.fromkeys(file for files in held for file in files)
    found: dict[str, dict[str, Entry]] = {file: {} for file in files_of_all}
    for (file, name), (dtype, shape) in facts.items():
        parts = sorted(written[file, name], key=lambda part: part.box)
        found[file][name] = Entry(dtype, shape, tuple(parts))
    index = Index(len(held), found)
    wrong = index_fault(index)
    if wrong is not None:
        raise ModelFileError(f"this layout cannot be saved: {wrong}; report it, and use another runtime.parallel")
    return index


def _tuple(values: object) -> tuple[int, ...]:
    assert isinstance(values, list), "from JSON"
    return tuple(int(value) for value in values)


def own_parts(
    index: Index, file: str, held: Mapping[str, Held], rank: int, *, copied: bool
) -> dict[str, dict[str, Tensor]]:
    """{name of this rank's file: {key: part}} of one whole file; nothing where it has no part of it."""
    mine = part_file(file, rank, index.ranks)
    parts = {
        key_of(name, part.box, entry.shape): held[name].part(part.box, copied)
        for name, entry in index.files[file].items()
        for part in entry.parts
        if part.file == mine
    }
    return {mine: parts} if parts else {}
