"""The events of the CPU's allocator -> bytes held over time: what a piece of code allocated and has not freed.

    with Allocations() as seen:
        ...
        seen.mark("built")
        ...
    seen.held("built"), seen.peak("built")

They come from torch.profiler (profile_memory), which the allocator tells of every block. What was allocated before is
not counted, nor is its end. A block that another thread frees (gloo's, behind a collective) has no event for that: it
is known to be gone when its address is given out again. `held` leaves such blocks out, `peak` has them until then.
Unlike resident memory this does not depend on what an allocator keeps for later.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_MARK, _MEMORY = "mark: ", "[memory]"


@dataclass
class Block:
    """Bytes from one moment to another; `freed` False where nobody told of the end."""

    bytes: int
    begin: float
    end: float = math.inf
    freed: bool = True


class Allocations:
    """Watches the allocator inside a `with` block; ask it afterwards."""

    def __init__(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)
        self.blocks: list[Block] = []
        self._marks: dict[str, float] = {}

    def __enter__(self) -> Allocations:
        self._profile.__enter__()
        return self

    def mark(self, name: str) -> None:
        """Remember this moment; of two of one name the later one."""
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
        """Bytes held at a mark."""
        moment = self._marks[mark]
        return sum(block.bytes for block in self.blocks if block.freed and block.begin <= moment < block.end)

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


def blocks(events: Iterable[dict[str, Any]]) -> list[Block]:
    """The blocks that the allocator's events (in order) tell of."""
    found: list[Block] = []
    live: dict[int, Block] = {}
    for event in events:
        address, change, moment = event["args"]["Addr"], int(event["args"]["Bytes"]), float(event["ts"])
        before = live.pop(address, None)
        if before is not None:
            before.end, before.freed = moment, change < 0
        if change > 0:
            live[address] = Block(change, moment)
            found.append(live[address])
    return found
