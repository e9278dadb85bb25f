"""The kernels of a block with biases, norms behind and attention in both directions (BERT's), with their gradients.

    both_ways_attention    queries, keys, values of each position -> mixed values of its segment
    linear                 a product with a bias, whose gradient is summed by a kernel
    add_layer_norm         the norm of x + branch + bias, in one pass
    gelu                   of x + bias

Invariant: as in `ops`; ask `ops.usable` first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.kernels.operators import PARTS, call, operator, sums_shape


def _mixed_shapes(joined: Tensor, segments: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
    rows, time, width = joined.shape
    return joined.new_empty((rows, time, width // 3)), joined.new_empty((rows, heads, time), dtype=torch.float32)


@operator("both_ways(Tensor joined, Tensor? segments, int heads) -> (Tensor, Tensor)", _mixed_shapes)
def _both_ways(joined: Tensor, segments: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
    mixed, log_sums = _mixed_shapes(joined, segments, heads)
    call("attention", "attention_forward", *_parts(joined), segments, mixed, log_sums, *_sizes(joined, heads))
    return mixed, log_sums


def _joined_shape(grad: Tensor, joined: Tensor, segments: Tensor | None, mixed: Tensor, log_sums: Tensor) -> Tensor:
    return torch.empty_like(joined)


@operator(
    "both_ways_backward(Tensor grad, Tensor joined, Tensor? segments, Tensor mixed, Tensor log_sums) -> Tensor",
    _joined_shape,
)
def _both_ways_backward(
    grad: Tensor, joined: Tensor, segments: Tensor | None, mixed: Tensor, log_sums: Tensor
) -> Tensor:
    grad_joined = torch.empty_like(joined)
    saved = (segments, mixed, log_sums)
    sizes = _sizes(joined, log_sums.shape[1])
    call("attention", "attention_backward", grad, *_parts(joined), *saved, *_parts(grad_joined), *sizes)
    return grad_joined


def _parts(joined: Tensor) -> list[Tensor | int]:
    """Queries, keys and values, each with the elements from one position to the next."""
    return [each for part in joined.chunk(3, dim=-1) for each in (part, part.stride(1))]


def _sizes(joined: Tensor, heads: int) -> tuple[int, ...]:
    rows, time, width = joined.shape
    return rows, time, heads, heads, width // 3 // heads, 0


class _BothWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor, segments: Tensor | None, heads: int) -> Tensor:
        mixed: Tensor
        mixed, log_sums = _both_ways(joined, segments, heads)
        ctx.save_for_backward(joined, segments, mixed, log_sums)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _both_ways_backward(grad.contiguous(), *ctx.saved_tensors), None, None


def both_ways_attention(joined: Tensor, segments: Tensor | None, heads: int) -> Tensor:
    """Attention of every position to all of its segment, in bfloat16 -> [rows, time, heads * dim].

    `joined` [rows, time, 3 heads * dim]: queries, keys, values; `segments` [rows, time], int32 (None: all are one).
    """
    mixed: Tensor = _BothWays.apply(joined.contiguous(), segments, heads)  # type: ignore[no-untyped-call]
    return mixed


def _norm_shapes(
    x: Tensor, branch: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, inverse = (x.new_empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
    return torch.empty_like(x), torch.empty_like(x), mean, inverse


@operator(
    "add_layer_norm(Tensor x, Tensor branch, Tensor? bias, Tensor gain, Tensor shift, float epsilon)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _norm_shapes,
)
def _add_layer_norm(
    x: Tensor, branch: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, total, mean, inverse = _norm_shapes(x, branch, bias, gain, shift, epsilon)
    size = x.shape[-1]
    inputs, outputs = (x, branch, bias, gain, shift), (total, y, mean, inverse)
    call("postnorm", "layer_norm_forward", *inputs, *outputs, x.numel() // size, size, epsilon)
    return y, total, mean, inverse


def _norm_gradients(grad: Tensor, total: Tensor, gain: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(total), total.new_empty((PARTS, 3, total.shape[-1]), dtype=torch.float32)


@operator(
    "add_layer_norm_backward(Tensor grad, Tensor total, Tensor gain, Tensor mean, Tensor inverse) -> (Tensor, Tensor)",
    _norm_gradients,
)
def _add_layer_norm_backward(
    grad: Tensor, total: Tensor, gain: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    grad_total, parts = _norm_gradients(grad, total, gain, mean, inverse)
    size = total.shape[-1]
    saved = (grad, total, gain, mean, inverse)
    call("postnorm", "layer_norm_backward", *saved, grad_total, parts, total.numel() // size, size)
    return grad_total, parts


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor, epsilon: float
    ) -> Tensor:
        y: Tensor
        y, total, mean, inverse = _add_layer_norm(x, branch, bias, gain, shift, epsilon)
        ctx.save_for_backward(total, gain, mean, inverse)
        ctx.has_bias = bias is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_total, parts = _add_layer_norm_backward(grad.contiguous(), *ctx.saved_tensors)
        by_gain, by_shift, by_bias = parts.sum(0)
        return grad_total, grad_total, by_bias if ctx.has_bias else None, by_gain, by_shift, None


def add_layer_norm(
    x: Tensor, branch: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor, epsilon: float
) -> Tensor:
    """Layer norm of `x + branch + bias` over the last dimension of bfloat16 [..., size]; vectors are float32 [size]."""
    y: Tensor = _AddLayerNorm.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), branch.contiguous(), bias, gain, shift, epsilon
    )
    return y


def _gelu_shapes(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@operator("gelu(Tensor x, Tensor bias) -> (Tensor, Tensor)", _gelu_shapes)
def _gelu(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    y, slope = _gelu_shapes(x, bias)
    call("postnorm", "gelu_forward", x, bias, y, slope, x.numel() // x.shape[-1], x.shape[-1])
    return y, slope


def _gelu_gradients(grad: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), sums_shape(grad)


@operator("gelu_backward(Tensor grad, Tensor slope) -> (Tensor, Tensor)", _gelu_gradients)
def _gelu_backward(grad: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    grad_x, parts = _gelu_gradients(grad, slope)
    call("postnorm", "gelu_backward", grad, slope, grad_x, parts, grad.numel() // grad.shape[-1], grad.shape[-1])
    return grad_x, parts


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        y: Tensor
        y, slope = _gelu(x, bias)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (slope,) = ctx.saved_tensors
        grad_x, parts = _gelu_backward(grad.contiguous(), slope)
        return grad_x, parts.sum(0)


def gelu(x: Tensor, bias: Tensor) -> Tensor:
    """GELU (the exact one) of bfloat16 `x + bias`, with a float32 bias over the last dimension."""
    y: Tensor = _Gelu.apply(x.contiguous(), bias)  # type: ignore[no-untyped-call]
    return y
