"""How often each fault is tried: on every commit by hand (quick), by `make soak` (nightly)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tier:
    """Numbers of trials."""

    kills: dict[str, int] = field(default_factory=dict)
    """By kind of model."""
    points: int = 0
    """Crash points of a save, per number of ranks (0: all)."""
    corruptions: int = 10
    shards: int = 10
    resources: tuple[str, ...] = ()
    """Kinds of resource faults; none: all."""
    stops: int = 2
    recoveries: int = 1
    minutes: float = 0.0
    lost: int = 1
    hangs: int = 1
    layouts: int = 1
    locks: int = 1
    mutations: int = 5


TIERS = {
    "quick": Tier(
        kills={"decoder": 3, "encoder": 1, "lstm": 1},
        points=10,
        resources=("inodes", "file size", "full logs", "threads"),
        lost=3,
        hangs=2,
        layouts=2,
        locks=2,
    ),
    "nightly": Tier(
        kills={"decoder": 20, "encoder": 20, "lstm": 20},
        corruptions=500,
        shards=100,
        stops=9,
        recoveries=5,
        minutes=20.0,
        lost=20,
        hangs=10,
        layouts=5,
        locks=20,
        mutations=30,
    ),
}
