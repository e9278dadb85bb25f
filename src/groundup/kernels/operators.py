"""How a C function becomes an operator of torch: tensors and numbers as C has them, and shapes for fake tensors.

    @operator("name(Tensor x) -> Tensor", shapes)        torch.ops.groundup.name, on a CPU
    def name(x): call("file", "c_function", x, ...)

Invariant: a library is asked for by `call` only, so importing this compiles nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.library import Library

from groundup.kernels.build import library, obstacle

PARTS = 64
"""Parts of the rows over which gradients of gains and biases are summed; as in pointwise.cpp and postnorm.cpp."""

P = ParamSpec("P")
R = TypeVar("R")

_operators = Library("groundup", "DEF")  # type: ignore[no-untyped-call]


def call(file: str, name: str, *arguments: Tensor | int | float | None) -> None:
    """Call the function `name` of `<file>.cpp`; tensors are handed over as pointers, so they must be contiguous."""
    found = library(file)
    assert found is not None, f"asked by `usable`: {obstacle(file)}"
    getattr(found, name)(*map(_as_c, arguments))


def _as_c(value: Tensor | int | float | None) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)


def sums_shape(x: Tensor) -> Tensor:
    """Room for the sums over all but the last dimension of `x`, each of a part of the rows."""
    return x.new_empty((PARTS, x.shape[-1]), dtype=torch.float32)


def operator(schema: str, shapes: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as the operator of this schema; `shapes` answers in its place for fakes."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        name = _operators.define(schema)  # type: ignore[no-untyped-call]
        _operators.impl(name, function, "CPU")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"groundup::{name}", shapes, lib=_operators)
        made: Callable[P, R] = getattr(torch.ops.groundup, name)
        return made

    return register
