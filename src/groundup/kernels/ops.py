"""The kernels as functions of tensors with gradients: norm, rotated attention, SwiGLU, losses; bfloat16 on a CPU.

    torch.ops.groundup.*                                one operator a kernel, with the shapes it answers under fakes
    rms_norm, add_rms_norm, rotated_attention, swiglu   the same with their gradients

Invariant: each computes what the plain layers of `groundup.models` compute, to the rounding of bfloat16, and its result
does not depend on the number of threads. Import it only where `usable()` was asked first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.kernels.build import obstacle
from groundup.kernels.operators import PARTS, call, operator

FILES = ("attention", "pointwise", "postnorm", "products", "orthogonalise")

ORTHOGONALISE_LIMIT = 2**20
"""Elements of a matrix that one core works on by itself; torch's products are the better way for larger ones."""


def usable() -> bool:
    """Whether the kernels run on this machine; the first call compiles them (three seconds, once a machine)."""
    return not why_not()


def why_not() -> str | None:
    """What keeps the kernels from running here, in words for people; None when nothing does."""
    return next((reason for reason in map(obstacle, FILES) if reason), None)


def fits(head_dim: int) -> bool:
    """Whether the attention kernel can take heads of this width."""
    return head_dim % 16 == 0


def _norm_shapes(x: Tensor, delta: Tensor | None, gain: Tensor | None, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    total = x.new_empty(0) if delta is None else torch.empty_like(x)
    return torch.empty_like(x), total, x.new_empty(x.shape[:-1], dtype=torch.float32)


@operator("rms_norm(Tensor x, Tensor? delta, Tensor? gain, float epsilon) -> (Tensor, Tensor, Tensor)", _norm_shapes)
def _rms_norm(x: Tensor, delta: Tensor | None, gain: Tensor | None, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    y, total, inverse = _norm_shapes(x, delta, gain, epsilon)
    size = x.shape[-1]
    call("pointwise", "rms_norm_forward", x, delta, gain, total, y, inverse, x.numel() // size, size, epsilon)
    return y, total, inverse


def _norm_backward_shapes(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, gain: Tensor | None, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty((PARTS if gain is not None else 0, x.shape[-1]), dtype=torch.float32)


@operator(
    "rms_norm_backward(Tensor grad, Tensor? grad_sum, Tensor x, Tensor? gain, Tensor inverse) -> (Tensor, Tensor)",
    _norm_backward_shapes,
)
def _rms_norm_backward(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, gain: Tensor | None, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    grad_x, parts = _norm_backward_shapes(grad, grad_sum, x, gain, inverse)
    size = x.shape[-1]
    where = None if gain is None else parts
    call("pointwise", "rms_norm_backward", grad, grad_sum, x, gain, inverse, grad_x, where, x.numel() // size, size)
    return grad_x, parts


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, epsilon: float) -> Tensor:
        y: Tensor
        y, _, inverse = _rms_norm(x, None, gain, epsilon)
        ctx.save_for_backward(x, gain, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, inverse = ctx.saved_tensors
        grad_x, parts = _rms_norm_backward(grad.contiguous(), None, x, gain, inverse)
        return grad_x, None if gain is None else parts.sum(0), None


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, gain: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        y, total, inverse = _rms_norm(x, delta, gain, epsilon)
        ctx.save_for_backward(total, gain, inverse)
        return total, y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
        total, gain, inverse = ctx.saved_tensors
        grad_x, parts = _rms_norm_backward(grad.contiguous(), grad_total.contiguous(), total, gain, inverse)
        return grad_x, grad_x, parts.sum(0), None


def rms_norm(x: Tensor, gain: Tensor | None, epsilon: float) -> Tensor:
    """Root-mean-square norm over the last dimension of bfloat16 [..., size] with a float32 gain [size] (or none)."""
    y: Tensor = _RMSNorm.apply(x.contiguous(), gain, epsilon)  # type: ignore[no-untyped-call]
    return y


def add_rms_norm(x: Tensor, delta: Tensor, gain: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`x + delta` and its norm, in one pass."""
    found: tuple[Tensor, Tensor] = _AddRMSNorm.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), delta.contiguous(), gain, epsilon
    )
    return found


def _turned_shapes(
    joined: Tensor,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
    cosines: Tensor,
    sines: Tensor,
    heads: int,
    kv_heads: int,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    rows, time, width = joined.shape
    dim = width // (heads + 2 * kv_heads)
    inverse_heads = heads + kv_heads if query_gain is not None else 0
    inverse = joined.new_empty((rows, time, inverse_heads), dtype=torch.float32)
    return joined.new_empty((rows, time, (heads + kv_heads) * dim)), inverse


@operator(
    "rotate(Tensor joined, Tensor? query_gain, Tensor? key_gain, Tensor cosines, Tensor sines, int heads, int kv_heads,"
    " float epsilon) -> (Tensor, Tensor)",
    _turned_shapes,
)
def _rotate(
    joined: Tensor,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
    cosines: Tensor,
    sines: Tensor,
    heads: int,
    kv_heads: int,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    turned, inverse = _turned_shapes(joined, query_gain, key_gain, cosines, sines, heads, kv_heads, epsilon)
    dim = turned.shape[-1] // (heads + kv_heads)
    positions, angle_rows = joined.shape[0] * joined.shape[1], cosines.numel() // (dim // 2)
    arguments = (joined, query_gain, key_gain, cosines, sines, turned, inverse, positions, angle_rows)
    call("pointwise", "rotate_forward", *arguments, heads, kv_heads, dim, epsilon)
    return turned, inverse


def _mixed_shapes(
    turned: Tensor, joined: Tensor, segments: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor]:
    rows, time, width = turned.shape
    dim = width // (heads + kv_heads)
    return turned.new_empty((rows, time, heads * dim)), turned.new_empty((rows, heads, time), dtype=torch.float32)


@operator(
    "attention(Tensor turned, Tensor joined, Tensor? segments, int heads, int kv_heads) -> (Tensor, Tensor)",
    _mixed_shapes,
)
def _attention(
    turned: Tensor, joined: Tensor, segments: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor]:
    mixed, log_sums = _mixed_shapes(turned, joined, segments, heads, kv_heads)
    query, key, value, dim = _parts(turned, joined, heads, kv_heads)
    rows, time, _ = turned.shape
    where = (query, query.stride(1), key, key.stride(1), value, value.stride(1))
    call("attention", "attention_forward", *where, segments, mixed, log_sums, rows, time, heads, kv_heads, dim, 1)
    return mixed, log_sums


def _parts(turned: Tensor, joined: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Queries, keys and values as views, and the width of a head."""
    dim = turned.shape[-1] // (heads + kv_heads)
    query, key = turned[..., : heads * dim], turned[..., heads * dim :]
    return query, key, joined[..., (heads + kv_heads) * dim :], dim


def _joined_shape(
    grad: Tensor,
    turned: Tensor,
    joined: Tensor,
    segments: Tensor | None,
    mixed: Tensor,
    log_sums: Tensor,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
    cosines: Tensor,
    sines: Tensor,
    inverse: Tensor,
    heads: int,
    kv_heads: int,
) -> tuple[Tensor, Tensor]:
    dim = turned.shape[-1] // (heads + kv_heads)
    gains = joined.new_empty((PARTS if query_gain is not None else 0, 2, dim), dtype=torch.float32)
    return torch.empty_like(joined), gains


@operator(
    "attention_backward(Tensor grad, Tensor turned, Tensor joined, Tensor? segments, Tensor mixed, Tensor log_sums,"
    " Tensor? query_gain, Tensor? key_gain, Tensor cosines, Tensor sines, Tensor inverse, int heads, int kv_heads)"
    " -> (Tensor, Tensor)",
    _joined_shape,
)
def _attention_backward(
    grad: Tensor,
    turned: Tensor,
    joined: Tensor,
    segments: Tensor | None,
    mixed: Tensor,
    log_sums: Tensor,
    query_gain: Tensor | None,
    key_gain: Tensor | None,
    cosines: Tensor,
    sines: Tensor,
    inverse: Tensor,
    heads: int,
    kv_heads: int,
) -> tuple[Tensor, Tensor]:
    grad_joined, gains = _joined_shape(
        grad, turned, joined, segments, mixed, log_sums, query_gain, key_gain, cosines, sines, inverse, heads, kv_heads
    )
    rows, time, _ = turned.shape
    query, key, value, dim = _parts(turned, joined, heads, kv_heads)
    grad_turned = torch.empty_like(turned)
    grad_query, grad_key, grad_value, _ = _parts(grad_turned, grad_joined, heads, kv_heads)
    inputs = (grad, query, query.stride(1), key, key.stride(1), value, value.stride(1), segments, mixed, log_sums)
    step, outputs = grad_query.stride(1), (grad_query, grad_key, grad_value)
    where = (outputs[0], step, outputs[1], step, outputs[2], grad_value.stride(1))
    call("attention", "attention_backward", *inputs, *where, rows, time, heads, kv_heads, dim, 1)
    angles = (cosines, sines, inverse, grad_joined, None if query_gain is None else gains)
    counts = (rows * time, cosines.numel() // (dim // 2), heads, kv_heads, dim)
    call("pointwise", "rotate_backward", grad_turned, joined, query_gain, key_gain, *angles, *counts)
    return grad_joined, gains


class _RotatedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        joined: Tensor,
        query_gain: Tensor | None,
        key_gain: Tensor | None,
        cosines: Tensor,
        sines: Tensor,
        segments: Tensor | None,
        heads: int,
        kv_heads: int,
        epsilon: float,
    ) -> Tensor:
        turned, inverse = _rotate(joined, query_gain, key_gain, cosines, sines, heads, kv_heads, epsilon)
        mixed: Tensor
        mixed, log_sums = _attention(turned, joined, segments, heads, kv_heads)
        ctx.save_for_backward(turned, joined, segments, mixed, log_sums, query_gain, key_gain, cosines, sines, inverse)
        ctx.heads = (heads, kv_heads)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_joined, gains = _attention_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.heads)
        query_gain, key_gain = gains.sum(0) if len(gains) else (None, None)
        return grad_joined, query_gain, key_gain, None, None, None, None, None, None


def rotated_attention(
    joined: Tensor,
    gains: tuple[Tensor, Tensor] | None,
    by: tuple[Tensor, Tensor],
    segments: Tensor | None,
    heads: int,
    kv_heads: int,
    epsilon: float,
) -> Tensor:
    """Causal attention of bfloat16 queries, keys and values -> [rows, time, heads * dim].

    `joined` [rows, time, (heads + 2 kv_heads) * dim]: queries, keys, values of each position; `gains` of the norms of
    queries and keys [dim] (None: no norms); `by`: cosines and sines [rows or 1, 1, time, dim / 2] in float32;
    `segments` [rows, time]: a position sees its own only.
    """
    query_gain, key_gain = gains if gains is not None else (None, None)
    cosines, sines = (part.contiguous() for part in by)
    own = None if segments is None else segments.to(torch.int32).contiguous()
    mixed: Tensor = _RotatedAttention.apply(  # type: ignore[no-untyped-call]
        joined.contiguous(), query_gain, key_gain, cosines, sines, own, heads, kv_heads, epsilon
    )
    return mixed


def _half(joined: Tensor) -> Tensor:
    return joined.new_empty((*joined.shape[:-1], joined.shape[-1] // 2))


@operator("swiglu(Tensor joined) -> Tensor", _half)
def _swiglu(joined: Tensor) -> Tensor:
    y = _half(joined)
    call("pointwise", "swiglu_forward", joined, y, y.numel() // y.shape[-1], y.shape[-1])
    return y


@operator("swiglu_backward(Tensor grad, Tensor joined) -> Tensor", lambda grad, joined: torch.empty_like(joined))
def _swiglu_backward(grad: Tensor, joined: Tensor) -> Tensor:
    grad_joined = torch.empty_like(joined)
    size = grad.shape[-1]
    call("pointwise", "swiglu_backward", grad, joined, grad_joined, grad.numel() // size, size)
    return grad_joined


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:
        ctx.save_for_backward(joined)
        y: Tensor = _swiglu(joined)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        found: Tensor = _swiglu_backward(grad.contiguous(), *ctx.saved_tensors)
        return found


def swiglu(joined: Tensor) -> Tensor:
    """bfloat16 [..., 2 size] (gates, then what they let through) -> silu(gate) * up, [..., size]."""
    y: Tensor = _SwiGLU.apply(joined.contiguous())  # type: ignore[no-untyped-call]
    return y


@operator("scale_finite_(Tensor(a!) x, Tensor scale) -> ()", lambda x, scale: None)
def scale_finite_(x: Tensor, scale: Tensor) -> None:
    """Multiply float32 `x` by the float32 number `scale`; numbers that are not finite become 0.

    Nothing is read or written when the scale is 1: it may be 1 only where all numbers are finite.
    """
    assert x.is_contiguous(), "gradients lie as their parameters do"
    call("pointwise", "scale_finite", x, scale, x.numel())


def _losses_shape(
    scores: Tensor, targets: Tensor, weights: Tensor | None, ignore: int, smoothing: float = 0.0, z_loss: float = 0.0
) -> Tensor:
    return scores.new_empty(len(scores), dtype=torch.float32)


@operator(
    "token_losses_(Tensor(a!) scores, Tensor targets, Tensor? weights, int ignore, float smoothing=0, float z_loss=0)"
    " -> Tensor",
    _losses_shape,
)
def token_losses_(
    scores: Tensor, targets: Tensor, weights: Tensor | None, ignore: int, smoothing: float = 0.0, z_loss: float = 0.0
) -> Tensor:
    """Cross-entropy [tokens] in nats of bfloat16 scores [tokens, vocab]; 0 where the target is `ignore`.

    `smoothing` of the labels and `z_loss` as in `models.losses`. With `weights` [tokens] the scores are replaced by the
    gradient of `sum(weights * losses)`.
    """
    losses = _losses_shape(scores, targets, weights, ignore)
    extra = (float(smoothing), float(z_loss))
    # The gradient of a sum is one number with a stride of 0.
    weights = None if weights is None else weights.contiguous()
    call("pointwise", "token_losses", scores, targets, weights, losses, *scores.shape, ignore, *extra)
    return losses


def can_orthogonalise(rows: int, columns: int) -> bool:
    """Whether the kernel takes matrices of this shape, on this machine."""
    small_enough = rows * columns <= ORTHOGONALISE_LIMIT
    return small_enough and rows <= columns and rows % 16 == 0 and columns % 32 == 0 and usable()


def _orthogonal_shape(matrices: Tensor, coefficients: Tensor) -> Tensor:
    return torch.empty_like(matrices, dtype=torch.bfloat16)


@operator("orthogonalise(Tensor matrices, Tensor coefficients) -> Tensor", _orthogonal_shape)
def orthogonalise(matrices: Tensor, coefficients: Tensor) -> Tensor:
    """Newton-Schulz iterations of float32 [count, rows, columns] by `coefficients` [steps, 3]; answers in bfloat16."""
    x = _orthogonal_shape(matrices, coefficients)
    call("orthogonalise", "orthogonalise", matrices.contiguous(), x, coefficients, len(coefficients), *matrices.shape)
    return x
