"""What several ranks hold copies of must be the same to the bit: compared every so many steps, and ahead of each save.

    copies of a parameter, its optimizer state, its average --digest--> compared along the ranks that hold them
    step, seed, learning rate                                           compared over all ranks

Copies are what the layout makes them: of a sharded tensor the dimensions of the mesh along which it is replicated
(hybrid sharding, norms beside tensor parallel), of a whole tensor all ranks with rows. What only one rank holds (FSDP
over all ranks) has nothing to be compared with. Invariant: a check changes nothing, and ends alike on all ranks.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from groundup.errors import ResourceError
from groundup.optim import flat_state
from groundup.parallel.digest import digest
from groundup.parallel.mesh import CONTEXT, DATA_NAMES, part
from groundup.train.state import TrainState

GO_BACK_TIMES = 3
"""So often one attempt goes back for ranks that differ; then the machine is no longer to be trusted."""
NAMES_TOLD = 5


@dataclass(frozen=True)
class Difference:
    """Ranks that hold something else than the others, and what it is of."""

    ranks: tuple[int, ...]
    """Those in the minority; all that were compared where there is none (two ranks)."""
    names: tuple[str, ...]

    @property
    def where(self) -> str:
        """In words: `rank 1, embedding.weight`."""
        ranks = ", ".join(map(str, self.ranks))
        return f"rank{'s' if len(self.ranks) > 1 else ''} {ranks}, {self.names[0][:60]}"


class Agreement:
    """Compares the ranks of one run with each other. `every_steps` 0: never."""

    def __init__(self, every_steps: int, state: TrainState) -> None:
        self._every_steps = every_steps if state.world_size > 1 or state.exact else 0
        self._agreed_at = -1
        self._times = 0
        self.digest = ""
        """Of all parameters at the last check, 16 hex digits, where each rank holds them whole (`exact`); else none."""

    def due(self, step: int) -> bool:
        """Whether the number of steps asks for a check."""
        return bool(self._every_steps) and step % self._every_steps == 0

    def forget(self) -> None:
        """Another state is loaded: what was found of the last one says nothing of it."""
        self._agreed_at = -1

    def is_of(self, step: int) -> bool:
        """Whether `digest` is that of this step's end."""
        return bool(self.digest) and self._agreed_at == step

    def find(self, state: TrainState, learning_rate_factor: float) -> Difference | None:
        """What ranks differ in; None where they agree. A collective: every rank must call it.

        Raises ResourceError when there was a difference too often.
        """
        if not self._every_steps or self._agreed_at == state.step:
            return None
        found = self._differing_copies(state)
        found |= _differing_numbers(state, learning_rate_factor, bool(found))
        if not found:
            self._agreed_at = state.step
            return None
        self.forget()
        difference = _together(found, state.world_size)
        self._times += 1
        if self._times > GO_BACK_TIMES:
            raise ResourceError(
                f"step {state.step}: copies differ for the {self._times}th time ({difference.where}); memory or"
                " processor at fault? Leave that machine out, then the same command goes on"
            )
        return difference

    def _differing_copies(self, state: TrainState) -> dict[str, tuple[int, ...]]:
        """Name of each tensor that differs along one of this rank's lines -> the ranks at fault."""
        lines: dict[tuple[int, ...], tuple[dist.ProcessGroup, list[str], list[Tensor]]] = {}
        of_all = torch.zeros((), dtype=torch.int64, device=state.device)
        for name, value, groups in _copies(state):
            if not groups and name not in state.kept:
                continue
            number = digest(value).to(state.device)
            if name in state.kept:
                of_all = of_all * 31 + number
            for group in groups:
                ranks = tuple(dist.get_process_group_ranks(group))
                _, names, numbers = lines.setdefault(ranks, (group, [], []))
                names.append(name)
                numbers.append(number)
        self.digest = f"{int(of_all) % 2**64:016x}" if state.exact else ""
        found: dict[str, tuple[int, ...]] = {}
        for ranks, (group, names, numbers) in lines.items():
            own = torch.stack(numbers)
            others = [torch.empty_like(own) for _ in ranks]
            dist.all_gather(others, own, group=group)
            found |= odd_ones_out(names, torch.stack(others), ranks)
        return found


def _copies(state: TrainState) -> Iterator[tuple[str, Tensor, list[dist.ProcessGroup]]]:
    """Name, this rank's copy, and the lines of ranks along which there are others, of all that a step changes."""
    along = [part(state.mesh, name) for name in (*DATA_NAMES, CONTEXT)]
    whole = [line.get_group() for line in along if line is not None and line.size() > 1]
    parameters = dict(state.model.named_parameters())
    average = {f"average.{name}": value for name, value in (state.average.values if state.average else {}).items()}
    sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())
    for name, value in {**parameters, **flat_state(state.optimizer), **average}.items():
        if isinstance(value, DTensor):
            mesh = value.device_mesh
            copied = [place for place, placement in enumerate(value.placements) if placement.is_replicate()]
            groups = [mesh.get_group(place) for place in copied if mesh.size(place) > 1]
            if groups:
                yield name, value.to_local(), groups
        elif not sharded:
            # Beside sharded parameters, what is whole are counts of steps, which are compared as such.
            yield name, value, whole


def _differing_numbers(state: TrainState, learning_rate_factor: float, differ: bool) -> dict[str, tuple[int, ...]]:
    """What all ranks must have the same of; `differ` of any rank becomes a finding on each."""
    if state.world_size == 1:
        return {}
    (rate,) = struct.unpack("<q", struct.pack("<d", learning_rate_factor))
    own = torch.tensor([state.step, state.seed % 2**63, rate, int(differ)], device=state.device)
    others = [torch.empty_like(own) for _ in range(state.world_size)]
    dist.all_gather(others, own)
    table = torch.stack(others)
    found = odd_ones_out(("step", "seed", "learning_rate"), table[:, :3], tuple(range(state.world_size)))
    return found | ({"": ()} if bool(table[:, 3].any()) else {})


def odd_ones_out(names: Sequence[str], table: Tensor, ranks: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of a table [ranks, names] each name that is not the same on all ranks -> those of the minority."""
    found = {}
    for column in (table != table[0]).any(dim=0).nonzero().flatten().tolist():
        values = table[:, column].tolist()
        usual, count = Counter(values).most_common(1)[0]
        odd = tuple(rank for rank, value in zip(ranks, values) if value != usual)
        found[names[column]] = odd if 2 * count > len(ranks) else ranks
    return found


def _together(found: dict[str, tuple[int, ...]], world_size: int) -> Difference:
    """What all ranks found, each along its own lines."""
    own = [(name, ranks) for name, ranks in found.items() if name][:NAMES_TOLD]
    of_all: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(world_size)]
    dist.all_gather_object(of_all, own)
    told = dict(entry for entries in of_all for entry in entries)
    return Difference(tuple(sorted({rank for ranks in told.values() for rank in ranks})), tuple(told))
