"""The events of the CPU's allocator -> bytes held over time: what a piece of code allocated and has not freed.

    with Allocations() as seen:
        ...
        seen.mark("built")
        ...
    seen.held("built"), seen.peak("built")

They come from torch.profiler (profile_memory), which the allocator tells of every block. What was allocated before is
not counted, nor is its end. Unlike resident memory this does not depend on what an allocator keeps for later.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "mark: "


class Allocations:
    """Watches the allocator inside a `with` block; ask it afterwards."""

    def __init__(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)
        self.times: list[float] = []
        self.bytes: list[int] = []
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
        held = 0
        for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
            held += int(event["args"]["Bytes"])
            self.times.append(float(event["ts"]))
            self.bytes.append(held)
        for event in sorted((e for e in events if e["name"].startswith(_MARK)), key=lambda e: e["ts"]):
            self._marks[event["name"].removeprefix(_MARK)] = float(event["ts"])

    def held(self, mark: str) -> int:
        """Bytes held at a mark."""
        moment = self._marks[mark]
        before = [held for time, held in zip(self.times, self.bytes) if time <= moment]
        return before[-1] if before else 0

    def peak(self, mark: str | None = None) -> int:
        """The most bytes held at once, from a mark on."""
        moment = self._marks[mark] if mark is not None else float("-inf")
        return max((held for time, held in zip(self.times, self.bytes) if time >= moment), default=0)
