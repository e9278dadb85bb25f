"""A tensor's bits -> one number, on its device: two tensors that differ in one bit never have the same.

    digest = sum over i of bits_i * m_i   (mod 2^64), m_i odd

Flipping bit k of one number changes the sum by 2^k * m_i, which is 0 for no k below 64; several flips would have to
cancel out. Integers are added exactly, so neither threads nor the order matter. No fingerprint: who wants to can make
two tensors of one digest. Invariant: nothing is read back to the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ODD = 0x9E3779B97F4A7C15 - 2**64
"""2^64 over the golden ratio, as int64: its multiples are spread evenly."""
_AT_ONCE = 2**20
"""Numbers turned into int64 at a time, which bounds the memory for it."""


def digest(tensor: Tensor) -> Tensor:
    """The digest of a plain tensor (for a sharded one: of its local part) as int64 scalar on its device."""
    bits = tensor.detach().contiguous().view(-1).view(_INTEGERS[tensor.element_size()])
    odd = (torch.arange(min(len(bits), _AT_ONCE), device=tensor.device) * _ODD) | 1
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in torch.split(bits, _AT_ONCE):
        # The factor is odd too, so what an earlier part adds is moved on, never lost.
        total = total * _ODD + (part.to(torch.int64) * odd[: len(part)]).sum()
    return total
