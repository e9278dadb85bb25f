"""The events of the CPU's allocator -> bytes held over time: what a piece of code allocated and has not freed.

    with Allocations() as seen:
        ...
        seen.mark("built")
        ...
    seen.held("built"), seen.peak("built")

They come from torch.profiler (profile_memory), which the allocator tells of every block. What was allocated before is
not counted, nor is its end. A block that another thread frees (gloo's, behind a collective) has no event for that, and
is known to be gone only when its address is given out again. So `held` counts the blocks that a tensor of this process
still has, `unclaimed` all others; `peak` counts blocks until they are known to be gone, and may be too high by as much.
Unlike resident memory this does not depend on what an allocator keeps for later.
"""

from __future__ import annotations

import gc
import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.profiler import ProfilerActivity, profile, record_function

_MARK, _MEMORY = "mark: ", "[memory]"


@dataclass
class Block:
    """Bytes at an address from one moment to another."""

    address: int
    bytes: int
    begin: float
    end: float = math.inf


class Allocations:
    """Watches the allocator inside a `with` block; ask it afterwards."""

    def __init__(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)
        self.blocks: list[Block] = []
        self._marks: dict[str, float] = {}
        self._claimed: dict[str, set[int]] = {}

    def __enter__(self) -> Allocations:
        self._profile.__enter__()
        return self

    def mark(self, name: str) -> None:
        """Remember this moment, and which blocks tensors have; of two marks of one name the later one."""
        self._claimed[name] = addresses()
        with record_function(f"{_MARK}{name}"):
            torch.empty(0)

    def __exit__(self, *error: Any) -> None:
        self._profile.__exit__(*error)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace.json")
            self._profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        events.sort(key=lambda event: event.get("ts", 0))
        self.blocks = blocks(event for event in events if event["name"] == _MEMORY)
        marks = [event for event in events if event["name"].startswith(_MARK)]
        self._marks = {event["name"].removeprefix(_MARK): event["ts"] for event in marks}

    def held(self, mark: str) -> int:
        """Bytes at a mark that tensors have."""
        return sum(block.bytes for block in self._at(mark) if block.address in self._claimed[mark])

    def unclaimed(self, mark: str) -> int:
        """Bytes at a mark whose end has not been told, and that no tensor has."""
        return sum(block.bytes for block in self._at(mark)) - self.held(mark)

    def _at(self, mark: str) -> list[Block]:
        moment = self._marks[mark]
        return [block for block in self.blocks if block.begin <= moment < block.end]

    def peak(self, mark: str | None = None) -> int:
        """The most bytes held at once, from a mark on."""
        moment = self._marks[mark] if mark is not None else -math.inf
        changes = [(block.begin, block.bytes) for block in self.blocks]
        changes += [(block.end, -block.bytes) for block in self.blocks if block.end < math.inf]
        held, most = 0, 0
        for time, change in sorted(changes):
            held += change
            most = max(most, held) if time >= moment else most
        return most


def addresses() -> set[int]:
    """Where the tensors of this process, and their gradients, have their numbers."""
    real = (found for found in gc.get_objects() if issubclass(type(found), torch.Tensor))
    tensors = [found for found in real if not isinstance(found, FakeTensor)]
    tensors += [found.grad for found in tensors if found.is_leaf and found.grad is not None]
    places = set()
    for tensor in tensors:
        try:
            places.add(tensor.untyped_storage().data_ptr())
        except (RuntimeError, NotImplementedError):
            continue  # a sharded one has no numbers itself, its part has
    return places


def blocks(events: Iterable[dict[str, Any]]) -> list[Block]:
    """The blocks that the allocator's events (in order) tell of."""
    found: list[Block] = []
    live: dict[int, Block] = {}
    for event in events:
        address, change, moment = event["args"]["Addr"], int(event["args"]["Bytes"]), float(event["ts"])
        before = live.pop(address, None)
        if before is not None:
            before.end = moment
        if change > 0:
            live[address] = Block(address, change, moment)
            found.append(live[address])
    return found
