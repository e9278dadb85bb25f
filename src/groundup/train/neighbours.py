"""What the ranks of a run are at, from their heartbeats: who is silent, for whom the others wait, who is slow.

    a thread's frames -> `whereabouts`    innermost place in our code, and whether it waits there for other ranks
    heartbeats/rank-*.json, twice         -> `culprits` of a hang
    the same, every second                -> `Stragglers`: for whom the others wait most of their time

Ranks train in lockstep: a late one shows by nothing but the others' waiting. Invariant: clocks of machines are never
compared; a rank is silent when its count of beats stands still. Where ranks wait on a device and not in a call (GPUs),
nobody is named.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed

Beats = Mapping[int, Mapping[str, Any]]
"""Rank -> what its heartbeat says."""

ENDED = "ended"
"""Section of a rank that has left its phase, or was ended by its watchdog."""
SAMPLES = 20
"""Looks at each rank before one is called slow."""
SLOW_SHARE = 0.4
"""A rank is slow when the others wait for so much more of their time than it does."""
_OWN = str(Path(__file__).parents[1])
_DISTRIBUTED = str(Path(torch.distributed.__file__).parent)
_TENSORS = str(Path(_DISTRIBUTED, "tensor"))
_TORCH = str(Path(_DISTRIBUTED).parent)


def whereabouts(frame: FrameType | None) -> tuple[str, bool]:
    """Innermost line of our own code on a thread, "file:line function", and whether it waits there for other ranks."""
    # What torch puts between a collective and its operator (custom operators, autograd) is neither work nor waiting.
    while frame is not None and _between(frame.f_code.co_filename):
        frame = frame.f_back
    innermost = frame.f_code.co_filename if frame is not None else ""
    waits = innermost.startswith(_DISTRIBUTED) and not innermost.startswith(_TENSORS)
    while frame is not None and not frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    if frame is None:
        return "", waits
    file = Path(frame.f_code.co_filename).relative_to(_OWN)
    return f"{file}:{frame.f_lineno} {frame.f_code.co_name}", waits


def _between(file: str) -> bool:
    return file.startswith(_TORCH) and not file.startswith(_DISTRIBUTED)


def read_beats(folder: Path, world_size: int) -> dict[int, dict[str, Any]]:
    """The heartbeats of so many ranks in `folder`; those that cannot be read are left out."""
    found = {}
    for rank in range(world_size):
        try:
            beat = json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(beat, dict):
            found[rank] = beat
    return found


def culprits(before: Beats, after: Beats, world_size: int) -> list[dict[str, Any]]:
    """Ranks that keep the others waiting, with what they are at: those whose heart stands still, and those that do not
    wait themselves. None where that tells nobody apart.
    """
    found = []
    for rank in range(world_size):
        beat = after.get(rank, {})
        if beat.get("section") == ENDED:
            continue
        silent = not beat or before.get(rank, {}).get("beats") == beat.get("beats")
        if silent or not beat.get("waits"):
            about = {key: beat.get(key) for key in ("host", "pid", "section", "step", "at")}
            found.append({"rank": rank, "silent": silent, **about})
    return found if len(found) < world_size else []


class Stragglers:
    """Finds the rank for which the others wait, one window of heartbeats after the other."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._last: dict[int, Mapping[str, Any]] = {}
        self._named: int | None = None
        self._suspected: int | None = None

    def look(self, beats: Beats) -> dict[str, Any] | None:
        """What is known of a rank that was slow twice in a row, once; again when it was not, or another one was."""
        if len(beats) < self._world_size:
            return None
        last = self._last
        if {rank: beat.get("pid") for rank, beat in last.items()} != {r: beat.get("pid") for r, beat in beats.items()}:
            self._last = dict(beats)
            return None
        looked, waited = (
            {rank: int(beat.get(key, 0)) - int(last[rank].get(key, 0)) for rank, beat in beats.items()}
            for key in ("samples", "waiting")
        )
        if min(looked.values()) < SAMPLES:
            return None
        self._last = dict(beats)
        shares = {rank: waited[rank] / looked[rank] for rank in beats}
        slow = min(shares, key=lambda rank: shares[rank])
        others = statistics.median(share for rank, share in shares.items() if rank != slow)
        if others - shares[slow] < SLOW_SHARE:
            self._named = self._suspected = None
            return None
        before, self._suspected = self._suspected, slow
        if slow != before or slow == self._named:  # one window may be a machine's other work
            return None
        self._named = slow
        beat = beats[slow]
        return {
            **{key: beat.get(key) for key in ("rank", "host", "pid", "step", "at")},
            "waits_share": round(shares[slow], 2),
            "others_wait_share": round(others, 2),
        }
