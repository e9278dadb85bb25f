"""Names and a seed -> starting values, each parameter from a generator of its own.

Invariant: a parameter's start depends on (seed, name, shape) only, not on the number of ranks or the other parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


@torch.no_grad()
def fill_parameters(model: nn.Module, seed: int, std_of: Callable[[str], float | None]) -> None:
    """Normal numbers of the standard deviation that `std_of` gives for a name; None: 0 for biases, 1 for gains.

    Drawn on the CPU in float32 whole, then copied (of a sharded parameter the own shard only).
    """
    for name, parameter in model.named_parameters():
        std = std_of(name)
        start = torch.empty(parameter.shape, device="cpu")
        if std is None:
            start.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            start.normal_(0.0, std, generator=generator_of(seed, name))
        if isinstance(parameter, DTensor):
            start = distribute_tensor(
                start.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
            )
        parameter.copy_(start)


def generator_of(seed: int, name: str) -> torch.Generator:
    """A generator that belongs to (seed, name)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:7], "big"))
