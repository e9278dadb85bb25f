"""The layers without attention: matrices with float32 masters, root-mean-square norms, rotary positions, SwiGLU.

    float32 weight --cast to the dtype of the input--> matrix product        (Linear, Embedding)
    input --float32--> normalised or rotated --back to the input's dtype-->  (RMSNorm, rotate)

Invariant: a layer answers in the dtype of its input, and holds no buffer, so that a model materialised from the meta
device needs its parameters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.kernels import ops


class Linear(nn.Module):
    """`y = x W^T` without bias; the weight is cast to the dtype of `x`, so masters may stay float32."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_size, in_size))

    def forward(self, x: Float[Tensor, "*batch in_size"]) -> Float[Tensor, "*batch out_size"]:
        """[..., in_size] -> [..., out_size] in the dtype of `x`."""
        return F.linear(x, self.weight.to(x.dtype))


def joined_linear(x: Float[Tensor, "*batch in_size"], layers: Sequence[Linear]) -> Float[Tensor, "*batch joined"]:
    """The answers of several layers to one input, behind each other: one product instead of several, backward too."""
    joined: Tensor = _Joined.apply(x.dtype, *(layer.weight for layer in layers))  # type: ignore[no-untyped-call]
    return F.linear(x, joined)


class _Joined(torch.autograd.Function):
    """Matrices of equal width below each other in another dtype, in one pass; the gradient is cut up again."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *matrices: Tensor) -> Tensor:
        ctx.heights = [len(matrix) for matrix in matrices]
        ctx.dtype = matrices[0].dtype
        joined = matrices[0].new_empty((sum(ctx.heights), matrices[0].shape[1]), dtype=dtype)
        for part, matrix in zip(joined.split(ctx.heights), matrices):  # type: ignore[no-untyped-call]
            part.copy_(matrix)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(part.to(ctx.dtype) for part in grad.split(ctx.heights))  # type: ignore[no-untyped-call]


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019, arXiv 1910.07467), computed in float32."""

    fused = False
    """Use the kernel where the input is bfloat16."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the answer has the dtype of `x`."""
        if self.fused and x.dtype == torch.bfloat16:
            return ops.rms_norm(x, self.weight, self.epsilon)
        return (unit_rms(x.float(), self.epsilon) * self.weight.float()).to(x.dtype)


def unit_rms(x: Float[Tensor, "*batch size"], epsilon: float) -> Float[Tensor, "*batch size"]:
    """`x / sqrt(mean(x^2) + epsilon)` over the last dimension, in the dtype of `x`."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


class Embedding(nn.Module):
    """Token id -> row of a table, in the wanted dtype; with `norm` each row is brought to unit root mean square.

    The norm acts on single rows, so it folds into the table (`folded`).
    """

    fused = False
    """Use the kernel for the norm where bfloat16 is wanted."""

    def __init__(self, vocab_size: int, size: int, *, norm: bool, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, size))
        self.norm, self.epsilon = norm, epsilon

    def forward(self, tokens: Int[Tensor, "*batch"], dtype: torch.dtype) -> Float[Tensor, "*batch size"]:
        """Ids [...] -> vectors [..., size]."""
        vectors = F.embedding(tokens, self.weight)
        if self.norm and self.fused and dtype == torch.bfloat16:
            return ops.rms_norm(vectors.to(dtype), None, self.epsilon)
        return (unit_rms(vectors.float(), self.epsilon) if self.norm else vectors).to(dtype)


class SwiGLU(nn.Module):
    """Feed-forward `down(silu(gate x) * up x)` (Shazeer 2020, arXiv 2002.05202)."""

    fused = False
    """Use the kernel where the input is bfloat16."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, ffn_size)
        self.up = Linear(hidden_size, ffn_size)
        self.down = Linear(ffn_size, hidden_size)

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """[..., hidden_size] -> [..., hidden_size]."""
        if self.fused and x.dtype == torch.bfloat16:
            inner = ops.swiglu(joined_linear(x, (self.gate, self.up)))
        else:
            inner = F.silu(self.gate(x)) * self.up(x)
        y: Tensor = self.down(inner)
        return y


Rotation = tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]
"""Cosines and sines of all angles, float32; `batch` is the number of rows, or 1 where all have the same positions."""


def rotation(positions: Int[Tensor, "batch time"], head_dim: int, theta: float) -> Rotation:
    """Cosine and sine of the rotary angles `position * theta^(-2 i / head_dim)` (Su et al. 2021, arXiv 2104.09864)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, None, :, None].float() * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "rows heads time head_dim"], by: Rotation) -> Float[Tensor, "rows heads time head_dim"]:
    """Turn the pairs (i, i + head_dim/2) of `x` by their angles: the half-split layout of Hugging Face's Llama."""
    cosines, sines = by
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).to(x.dtype)
