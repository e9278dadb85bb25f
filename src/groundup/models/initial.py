"""Starting values of parameters: each drawn from a generator of its own, seeded by (seed, name).

Invariant: the start is the same for any number of ranks: drawn on the CPU in float32 whole, then copied (of a sharded
parameter the own shard only).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def generator(seed: int, name: str) -> torch.Generator:
    """The generator of one parameter."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:7], "big"))


@torch.no_grad()
def fill(parameter: Tensor, start: Tensor) -> None:
    """Copy a whole start into a (possibly sharded) parameter."""
    if isinstance(parameter, DTensor):
        start = distribute_tensor(
            start.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    parameter.copy_(start)
