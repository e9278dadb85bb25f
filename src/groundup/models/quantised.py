"""A frozen matrix in few bits: groups of weights of a row share a scale, each weight is a code of 8 or 4 bits.

    matrix [out, in] --groups of up to 64 along a row, divided by their largest magnitude--> codes, scales
    int8   code / 127 * scale               8.5 bits a weight with its part of the scales
    nf4    level[code] * scale              4.5 bits; the levels are quantiles of the normal distribution
                                            (Dettmers et al. 2023, arXiv 2305.14314, appendix E), two codes a byte

Invariant: what a matrix becomes depends on its values rounded to bfloat16, so that weights kept in float32 and in
bfloat16 give the same codes; nothing here has a gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Format = Literal["int8", "nf4"]
GROUP = 64
"""Weights that share a scale, at most; fewer where a row is no multiple of it."""
LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""What the sixteen codes of nf4 stand for, times the scale."""


def group_size(in_size: int) -> int:
    """Weights of a row that share a scale: the most up to GROUP that divide the row evenly."""
    return next(count for count in range(min(GROUP, in_size), 0, -1) if in_size % count == 0)


class QuantisedMatrix(nn.Module):
    """A matrix [out, in] as codes and scales, made from its values."""

    def __init__(self, kind: Format, matrix: Float[Tensor, "out in"]) -> None:
        super().__init__()
        self.kind, self.shape = kind, matrix.shape
        groups = matrix.detach().bfloat16().float().reshape(-1, group_size(matrix.shape[1]))
        # A group of zeros has no scale of its own; any will do.
        scales = groups.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        unit = groups / scales
        codes = (unit * 127).round().to(torch.int8) if kind == "int8" else _nearest(unit)
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "out in"]:
        """The values that the codes stand for."""
        if self.kind == "int8":
            unit = self.codes.float() / 127
        else:
            levels = torch.tensor(LEVELS, device=self.codes.device)
            pairs = torch.stack((levels.repeat_interleave(16), levels.repeat(16)), 1)
            found = F.embedding(self.codes.int(), pairs).flatten()
            unit = found[: self.shape.numel()].view(len(self.scales), -1)
        return (unit * self.scales).to(dtype).view(self.shape)


def _nearest(unit: Float[Tensor, "groups size"]) -> Tensor:
    """The nearest level of each number, two to a byte; a last one without a partner gets a zero."""
    levels = torch.tensor(LEVELS, device=unit.device)
    codes = torch.bucketize(unit.flatten(), (levels[1:] + levels[:-1]) / 2)
    pairs = F.pad(codes, (0, len(codes) % 2)).view(-1, 2)
    return (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)
