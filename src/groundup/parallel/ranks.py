"""All processes of a run as seen from one of them: what the first says to the others, and the mesh they train on.

    rank 0    prepares, evaluates, exports; says what is to be trained, and what is done
    others    wait for its words, train with it, and wait again

Words go through the store at which the ranks met, not through a collective: text may be prepared for hours, and no
collective waits that long. A store may outlive its ranks, so each start of them agrees on a name for its keys.
Invariant: every rank hears the same words in the same order, and none of those said to ranks that are gone.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from groundup.errors import LostRankError
from groundup.parallel.mesh import ParallelConfig, Rank, check_layout, join, leave

MEETING_SECONDS = 300.0
"""Longest time between the first rank and the last one at the store."""
PARTING_SECONDS = 30.0
"""Longest time that the first rank waits at the end for the others to have heard of it."""
LISTENING_SECONDS = 0.2
"""Time between two looks for a new word; signals are answered in between."""
_WORD, _PARTED = "word/", "parted"
_LEAD = "groundup/lead"


class Ranks:
    """This process among the ranks of a run, from the meeting at the store on."""

    def __init__(self, place: Rank, config: ParallelConfig) -> None:
        """Meet the others. Raises RecipeError for a layout that cannot be, LostRankError when they do not come."""
        check_layout(config, place.world_size)
        self.place, self.config = place, config
        self._mesh: DeviceMesh | None = None
        self._words = 0
        with contact(self):
            self._store = _store(place)

    @property
    def leads(self) -> bool:
        """Whether this is the process that does what only one can do."""
        return self.place.rank == 0

    def mesh(self, device_type: str) -> DeviceMesh:
        """The mesh over all ranks; the first call is a meeting, so every rank must come to it."""
        if self._mesh is None:
            self._mesh = join(self.config, self.place, device_type, PrefixStore("group", self._store))
        return self._mesh

    def say(self, word: Mapping[str, Any]) -> None:
        """Let all other ranks hear `word` (JSON), behind all words so far."""
        self._words += 1
        self._store.set(f"{_WORD}{self._words}", json.dumps(word))

    def hear(self) -> dict[str, Any]:
        """The next word of the first rank, however long it takes."""
        self._words += 1
        key = f"{_WORD}{self._words}"
        while not self._store.check([key]):
            time.sleep(LISTENING_SECONDS)
        heard: dict[str, Any] = json.loads(self._store.get(key))
        return heard

    def leave(self) -> None:
        """End the process group, the first rank last: the store may be its own, and ends with it."""
        self._mesh = None
        leave()
        parted, deadline = self._store.add(_PARTED, 1), time.monotonic() + PARTING_SECONDS
        while self.leads and parted < self.place.world_size and time.monotonic() < deadline:
            time.sleep(LISTENING_SECONDS / 10)
            parted = self._store.add(_PARTED, 0)


def _store(place: Rank) -> Store:
    url = f"tcp://{place.address}:{place.port}?rank={place.rank}&world_size={place.world_size}"
    store, _, _ = next(rendezvous(url, timeout=timedelta(seconds=MEETING_SECONDS)))
    return PrefixStore(f"groundup/{_agreed(place, store)}", store)


def _agreed(place: Rank, store: Store) -> str:
    """The name under which these ranks speak, which no earlier ones had.

    The first makes it up; it is valid for another rank once the first has answered that one by its own mark. The number
    of starts would not do: it differs between machines that came at different times.
    """
    mark = uuid.uuid4().hex
    if place.rank == 0:
        store.set(_LEAD, mark)
        others = [f"groundup/{mark}/here/{rank}" for rank in range(1, place.world_size)]
        store.wait(others, timedelta(seconds=MEETING_SECONDS))
        store.set(f"groundup/{mark}/all", json.dumps([store.get(key).decode() for key in others]))
        return mark
    deadline = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < deadline:
        if store.check([_LEAD]):
            lead = store.get(_LEAD).decode()
            store.set(f"groundup/{lead}/here/{place.rank}", mark)
            answer = f"groundup/{lead}/all"
            if store.check([answer]) and mark in json.loads(store.get(answer)):
                return lead
        time.sleep(LISTENING_SECONDS)
    raise LostRankError(
        f"rank {place.rank} of {place.world_size}: rank 0 did not come within {MEETING_SECONDS:.0f} s; see what it"
        " said. The same command goes on from the last checkpoint"
    )


@contextmanager
def contact(ranks: Ranks | None) -> Iterator[None]:
    """Turn torch's complaints about a rank that is gone or silent into LostRankError; without ranks let all pass."""
    try:
        yield
    except RuntimeError as error:
        if ranks is None or not is_of_contact(error):
            raise
        place = ranks.place
        raise LostRankError(
            f"rank {place.rank} of {place.world_size}: another rank ended or cannot be reached; see what it said."
            " The same command goes on from the last checkpoint",
            details=[str(error).strip().split("\n")[0][:300]],
        ) from error


def is_of_contact(error: BaseException) -> bool:
    """Whether torch complains of a rank that is gone or silent."""
    # Gloo has no class of its own for it; its messages name the file that they come from.
    return isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo/" in str(error))
