"""Products and the gradients of their matrices against float64, at sizes that fit no tile evenly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from groundup.kernels import machine, products
from groundup.kernels.products import add_weight_gradient_, linear, product

pytestmark = pytest.mark.skipif(machine.unsupported() is not None, reason=f"kernels: {machine.unsupported()}")


def number(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@settings(max_examples=60, deadline=None)
@example(tokens=350, inputs=384, outputs=97, transposed=False, bias=True)
@example(tokens=19, inputs=1090, outputs=49, transposed=True, bias=True)
@example(tokens=1, inputs=2, outputs=1, transposed=False, bias=False)
@example(tokens=0, inputs=4, outputs=3, transposed=True, bias=True)
@given(
    tokens=st.integers(0, 300),
    inputs=st.integers(1, 1100),
    outputs=st.integers(1, 100),
    transposed=st.booleans(),
    bias=st.booleans(),
)
def test_a_product_is_summed_in_float32(tokens: int, inputs: int, outputs: int, transposed: bool, bias: bool) -> None:
    x, matrix = number(tokens, inputs).bfloat16(), number(outputs, inputs, seed=1).bfloat16()
    shift = number(outputs, seed=2) if bias else None
    y = product(x, matrix.t().contiguous() if transposed else matrix, shift, transposed)
    exact = x.double() @ matrix.double().t() + (0 if shift is None else shift.double())
    size = x.double().abs() @ matrix.double().abs().t()
    assert (y.shape, y.dtype) == ((tokens, outputs), torch.bfloat16)
    # Half a unit of bfloat16's last place; a whole one of the bias where torch adds it, for odd numbers of inputs.
    allowed = 2**-8 * exact.abs() + 1e-6 * size + (2**-8 * shift.abs() if shift is not None and inputs % 2 else 0)
    assert ((y - exact).abs() <= allowed).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_what_lies_behind_the_rows_does_not_count(transposed: bool) -> None:
    x, matrix = number(21, 70).bfloat16(), number(40, 70, seed=1).bfloat16()
    room = torch.full((30, 70), float("nan"), dtype=torch.bfloat16)
    room[:21] = x
    weights = matrix.t().contiguous() if transposed else matrix
    assert torch.equal(product(room[:21], weights, None, transposed), product(x, weights, None, transposed))


@settings(max_examples=40, deadline=None)
@example(tokens=1025, outputs=401, inputs=97, add=False)
@example(tokens=513, outputs=9, inputs=31, add=True)
@example(tokens=1, outputs=1, inputs=1, add=True)
@example(tokens=0, outputs=3, inputs=5, add=False)
@given(tokens=st.integers(0, 1100), outputs=st.integers(1, 90), inputs=st.integers(1, 90), add=st.booleans())
def test_the_gradient_of_a_matrix_is_summed_in_float32(tokens: int, outputs: int, inputs: int, add: bool) -> None:
    grad, x = number(tokens, outputs).bfloat16(), number(tokens, inputs, seed=1).bfloat16()
    before = number(outputs, inputs, seed=2)
    sums = before.clone() if add else torch.full_like(before, float("nan"))
    add_weight_gradient_(sums, grad, x, add)
    exact = grad.double().t() @ x.double() + (before.double() if add else 0)
    size = grad.double().abs().t() @ x.double().abs() + before.abs()
    assert ((sums - exact).abs() <= 1e-6 * size).all()


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_change_no_bit() -> None:
    grad, x = number(1500, 130).bfloat16(), number(1500, 70).bfloat16()
    found = []
    for threads in (1, 2, 3, 4, 7):
        torch.set_num_threads(threads)
        sums = torch.empty(130, 70)
        add_weight_gradient_(sums, grad, x, False)
        found.append((sums, product(x, sums.bfloat16(), None, False), product(grad, sums.bfloat16(), None, True)))
    assert all(torch.equal(one, first) for each in found for one, first in zip(each, found[0]))


def test_a_processor_with_tile_instructions_uses_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "processor_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(products, "call", lambda *_: pytest.fail("the kernel was called"))
    grad, x, sums = number(40, 5).bfloat16(), number(40, 7).bfloat16(), torch.ones(5, 7)
    add_weight_gradient_(sums, grad, x, True)
    torch.testing.assert_close(sums, 1 + grad.float().t() @ x.float(), rtol=0.02, atol=0.1)
    for matrix, transposed in ((number(8, 7).bfloat16(), False), (number(7, 8).bfloat16(), True)):
        assert torch.equal(product(x, matrix, None, transposed), x @ (matrix if transposed else matrix.t()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_several_matrices_by_one_product(bias: bool, frozen: int | None) -> None:
    heights = (24, 8)
    x, grad = number(3, 50, 32).bfloat16(), number(3, 50, sum(heights)).bfloat16()
    matrices = [number(height, 32).requires_grad_(i != frozen) for i, height in enumerate(heights)]
    shift = number(sum(heights), seed=3).requires_grad_() if bias else None
    own = x.clone().requires_grad_()
    y = linear(own, tuple(matrices), shift)
    y.backward(grad)
    plain = [each.detach().clone().requires_grad_() for each in (x.float(), torch.cat(matrices).bfloat16().float())]
    plain_shift = None if shift is None else shift.detach().clone().requires_grad_()
    plain_y = F.linear(plain[0], plain[1], plain_shift)
    plain_y.backward(grad.float())
    torch.testing.assert_close(y.float(), plain_y, rtol=0.02, atol=0.05)
    assert own.grad is not None
    assert plain[0].grad is not None
    assert plain[1].grad is not None
    torch.testing.assert_close(own.grad.float(), plain[0].grad, rtol=0.02, atol=0.1)
    for i, (matrix, wanted) in enumerate(zip(matrices, plain[1].grad.split(heights))):  # type: ignore[no-untyped-call]
        if i == frozen:
            assert matrix.grad is None
            continue
        assert matrix.grad is not None
        assert matrix.grad.dtype == torch.float32
        torch.testing.assert_close(matrix.grad, wanted, rtol=1e-4, atol=1e-4)
    if shift is not None and plain_shift is not None:
        assert shift.grad is not None
        torch.testing.assert_close(shift.grad, plain_shift.grad, rtol=1e-4, atol=1e-3)


def test_shapes_under_fake_tensors() -> None:
    with FakeTensorMode():
        x, matrix = torch.empty(2, 5, 16, dtype=torch.bfloat16), torch.empty(8, 16, requires_grad=True)
        y = linear(x, (matrix,))
        y.sum().backward()  # type: ignore[no-untyped-call]
    assert (y.shape, y.dtype) == ((2, 5, 8), torch.bfloat16)
    assert matrix.grad is not None
    assert (matrix.grad.shape, matrix.grad.dtype) == ((8, 16), torch.float32)
