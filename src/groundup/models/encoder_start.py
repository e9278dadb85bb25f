"""Starting values by which an encoder sees the neighbours of a gap from its first step.

    position i        sines and cosines of i * rate, rates evenly from 0 to pi: no two positions of a row look alike
    key of i          those waves                       two heads of each layer, on waves of their own
    query of i        those waves at i + shift          layer 0: shifts -1 and +1, layer 1: -2 and +2, ...
    key * query       is large where the key's position is i + shift

From random numbers a small encoder with learned positions spends most of a short run on finding out who is next to
whom; until then it predicts frequent words only. All of it are values of BERT's own matrices, so nothing is left of it
at export. After Trockman & Kolter 2023 (arXiv 2305.09828), who start attention like that of trained models.

Invariant: the values follow from the shapes alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

GAIN = 1.1
"""Of queries and keys: high enough that a neighbour outweighs a hundred other positions."""
POSITIONS_OVER_TOKENS = 2.0
"""How much larger positions start than tokens, so that waves stand out from them."""


def wave_rates(size: int) -> Float[Tensor, " pairs"]:
    """Angle from one position to the next of each pair of a sine and a cosine."""
    pairs = size // 2
    return math.pi * (torch.arange(pairs, device="cpu") + 0.5) / pairs


def position_waves(length: int, size: int, std: float) -> Float[Tensor, "length size"]:
    """The table of positions: all sines, then all cosines; root mean square `std * POSITIONS_OVER_TOKENS`."""
    angles = torch.arange(length, device="cpu")[:, None] * wave_rates(size)
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    return torch.nn.functional.pad(waves, (0, size % 2)) * (math.sqrt(2) * std * POSITIONS_OVER_TOKENS)


def look_at_neighbours(
    matrix: Float[Tensor, "heads_times_head_dim hidden"], num_heads: int, layer: int, *, query: bool
) -> Float[Tensor, "heads_times_head_dim hidden"]:
    """`matrix` (queries or keys) with its first two heads (of one head only that) made to look at neighbours."""
    matrix = matrix.clone()
    size, rates = matrix.shape[1], wave_rates(matrix.shape[1])
    pairs, head_dim = len(rates), matrix.shape[0] // num_heads
    for head, direction in enumerate((-1, 1)[:num_heads]):
        chosen = torch.arange(head, pairs, min(2, num_heads), device="cpu")[: head_dim // 2]
        angle = rates[chosen] * (direction * (layer + 1) if query else 0)
        rows = torch.zeros(head_dim, size, device="cpu")
        sines, cosines = torch.arange(len(chosen)), torch.arange(len(chosen)) + len(chosen)
        rows[sines, chosen], rows[sines, chosen + pairs] = angle.cos(), angle.sin()
        rows[cosines, chosen], rows[cosines, chosen + pairs] = -angle.sin(), angle.cos()
        matrix[head * head_dim : (head + 1) * head_dim] = GAIN * rows
    return matrix
