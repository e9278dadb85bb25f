"""Products of bfloat16 by float32 matrices, all sums in float32, as those of the matrices' gradients; on a CPU.

    x [..., in], matrices [out, in] --linear--> [..., out of all]       gradients: one pass over x and what came back

Invariant: as all kernels, and a matrix learns from float32 sums that were never rounded to bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.kernels.machine import processor_flags
from groundup.kernels.operators import call, operator, sums_shape

TILES_INSTRUCTIONS = "amx_bf16"
"""Where a processor has them torch's products are several times as fast as what our kernel is made of."""


@operator(
    "add_weight_gradient_(Tensor(a!) sums, Tensor grad, Tensor x, bool add) -> ()", lambda sums, grad, x, add: None
)
def add_weight_gradient_(sums: Tensor, grad: Tensor, x: Tensor, add: bool) -> None:
    """`sums` [out, in], float32 (+)= grad^T x, for bfloat16 `grad` [tokens, out] and `x` [tokens, in].

    `add` to what is there, else in its place.
    """
    if TILES_INSTRUCTIONS in processor_flags() or not len(x):
        product = grad.t() @ x
        sums.add_(product) if add else sums.copy_(product)
        return
    grad, x = grad.contiguous(), x.contiguous()
    call("products", "weight_gradient", grad, x, sums, *grad.shape, x.shape[1], int(add))


def _product_shape(x: Tensor, matrix: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], matrix.shape[1 if transposed else 0]))


@operator("product(Tensor x, Tensor matrix, Tensor? bias, bool transposed) -> Tensor", _product_shape)
def product(x: Tensor, matrix: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    """`x` [..., in] by `matrix` [out, in], or (`transposed`) [in, out], plus `bias` [out] in float32 -> [..., out].

    All else is bfloat16.
    """
    if TILES_INSTRUCTIONS in processor_flags() or x.shape[-1] % 2 or not x.numel():
        whole = matrix.t() if transposed else matrix
        return torch.nn.functional.linear(x, whole, None if bias is None else bias.to(x.dtype))
    y = _product_shape(x, matrix, bias, transposed)
    x, matrix, inputs = x.contiguous(), matrix.contiguous(), x.shape[-1]
    bias = None if bias is None else bias.float().contiguous()
    call("products", "product", x, matrix, bias, y, x.numel() // inputs, inputs, y.shape[-1], int(transposed))
    return y


@operator("column_sums(Tensor x) -> Tensor", sums_shape)
def _column_sums(x: Tensor) -> Tensor:
    parts = sums_shape(x)
    call("postnorm", "column_sums", x, parts, x.numel() // x.shape[-1], x.shape[-1])
    return parts


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, *matrices: Tensor) -> Tensor:
        ctx.heights = [len(matrix) for matrix in matrices]
        ctx.dtype = matrices[0].dtype
        joined = _joined(matrices, x.dtype)
        ctx.save_for_backward(x, joined)
        y: Tensor = product(x, joined, bias, False)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, joined = ctx.saved_tensors
        grad = grad.contiguous()
        needs_x, needs_bias, *needed = ctx.needs_input_grad
        by_bias = _column_sums(grad).sum(0) if needs_bias else None
        by_matrices: list[Tensor | None] = [None] * len(needed)
        if any(needed):
            sums = torch.empty_like(joined, dtype=torch.float32)
            add_weight_gradient_(sums, grad.flatten(0, -2), x.flatten(0, -2), False)
            parts = sums.to(ctx.dtype).split(ctx.heights)  # type: ignore[no-untyped-call]
            by_matrices = [part if need else None for part, need in zip(parts, needed)]
        return product(grad, joined, None, True) if needs_x else None, by_bias, *by_matrices


def _joined(matrices: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    if len(matrices) == 1:
        return matrices[0].to(dtype)
    heights = [len(matrix) for matrix in matrices]
    joined = matrices[0].new_empty((sum(heights), matrices[0].shape[1]), dtype=dtype)
    for part, matrix in zip(joined.split(heights), matrices):  # type: ignore[no-untyped-call]
        part.copy_(matrix)
    return joined


def linear(x: Tensor, matrices: tuple[Tensor, ...], bias: Tensor | None = None) -> Tensor:
    """bfloat16 `x` [..., in] by `matrices` [out, in] below each other, plus the float32 `bias` -> [..., out of all].

    One product instead of several, backward too; matrices are rounded to bfloat16 in one pass.
    """
    y: Tensor = _Linear.apply(x, bias, *matrices)  # type: ignore[no-untyped-call]
    return y
