"""What the ranks of a run decide together; one rank alone decides for itself."""

from __future__ import annotations

import torch
import torch.distributed as dist

from groundup.train.state import TrainState


def highest(state: TrainState, *values: int) -> list[int]:
    """Of each value the highest on any rank (a collective: all must call it)."""
    if state.world_size == 1:
        return list(values)
    votes = torch.tensor(values, dtype=torch.int64, device=state.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return [int(vote) for vote in votes.tolist()]


def of_first_rank(state: TrainState, value: float) -> float:
    """The first rank's value: what depends on it must not differ where another kind of machine rounds otherwise."""
    if state.world_size == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=state.device)
    dist.broadcast(shared, src=0)
    return float(shared)
