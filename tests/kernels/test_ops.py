"""The kernels against the plain formulas in float32, forward and backward, at sizes that fit no tile evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from groundup.kernels import machine, ops
from groundup.models import DecoderConfig, build_model
from groundup.models.layers import Embedding, unit_rms
from groundup.models.rotary import YarnScaling, rotate, rotation

pytestmark = pytest.mark.skipif(machine.unsupported() is not None, reason=f"kernels: {machine.unsupported()}")

EPSILON = 1e-6
ROUNDING = 0.015
"""bfloat16 keeps 8 bits, and a gradient is rounded several times: 0.3 to 1% of its size are usual."""


def close(found: Tensor, wanted: Tensor, rounding: float = ROUNDING, least: float = 1e-2) -> None:
    """Close as a whole, and no element far off; `least` is the size that smaller ones count as."""
    error, wanted = found.detach().float() - wanted.detach(), wanted.detach()
    # Some gradients are zero by their nature (of a query with one key to see), and noise around it is no fault.
    assert float(error.square().mean().sqrt() / wanted.square().mean().sqrt().clamp(min=least)) < rounding
    assert float(error.abs().max() / wanted.abs().max().clamp(min=least)) < 3 * rounding


def number(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def test_the_kernels_compile_on_this_machine() -> None:
    assert ops.usable(), ops.why_not()


@pytest.mark.parametrize("size", [16, 40, 384])
@pytest.mark.parametrize("rows", [1, 7, 130])
def test_norm_and_residual_sum(rows: int, size: int) -> None:
    x, delta, grad_sum, grad = (number(rows, size, seed=i).bfloat16() for i in range(4))
    gain = number(size).abs() + 0.5
    own = leaves(x, delta, gain)
    total, y = ops.add_rms_norm(*own, EPSILON)
    torch.autograd.backward((total, y), (grad_sum, grad))
    plain = leaves(x.float(), delta.float(), gain)
    plain_total = plain[0] + plain[1]
    plain_y = unit_rms(plain_total, EPSILON) * plain[2]
    torch.autograd.backward((plain_total, plain_y), (grad_sum.float(), grad.float()))
    for found, wanted in zip(
        (total, y, *(leaf.grad for leaf in own)), (plain_total, plain_y, *(p.grad for p in plain))
    ):
        close(found, wanted)


def test_norm_without_residual_or_gain() -> None:
    x, grad = number(5, 48).bfloat16(), number(5, 48, seed=1).bfloat16()
    own, plain = x.clone().requires_grad_(), x.float().requires_grad_()
    y, plain_y = ops.rms_norm(own, None, EPSILON), unit_rms(plain, EPSILON)
    y.backward(grad)
    plain_y.backward(grad.float())
    close(y, plain_y)
    close(own.grad, plain.grad)


@pytest.mark.parametrize("size", [16, 24, 100])
def test_swiglu(size: int) -> None:
    joined, grad = 3 * number(9, 2 * size).bfloat16(), number(9, size).bfloat16()
    own, plain = joined.clone().requires_grad_(), joined.float().requires_grad_()
    y = ops.swiglu(own)
    gate, up = plain.chunk(2, dim=-1)
    plain_y = F.silu(gate) * up
    y.backward(grad)
    plain_y.backward(grad.float())
    close(y, plain_y)
    close(own.grad, plain.grad)


def plain_attention(
    joined: Tensor, gains: list[Tensor] | None, by: tuple[Tensor, Tensor], segments: Tensor, heads: int, kv_heads: int
) -> Tensor:
    dim, time = joined.shape[-1] // (heads + 2 * kv_heads), joined.shape[1]
    parts = joined.split((heads * dim, kv_heads * dim, kv_heads * dim), dim=-1)
    query, key, value = (part.unflatten(-1, (-1, dim)).transpose(1, 2) for part in parts)
    if gains is not None:
        query, key = unit_rms(query, EPSILON) * gains[0], unit_rms(key, EPSILON) * gains[1]
    query, key = rotate(query, by), rotate(key, by)
    mask = torch.ones(time, time, dtype=torch.bool).tril() & (segments[:, :, None] == segments[:, None])
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None], enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


@settings(max_examples=25)
@given(
    rows=st.integers(1, 3),
    time=st.integers(1, 200),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    dim=st.sampled_from([16, 32, 48, 64, 80, 128]),
    normed=st.booleans(),
    breaks=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_attention(rows: int, time: int, kv_heads: int, group: int, dim: int, normed: bool, breaks: float) -> None:
    heads = kv_heads * group
    joined = number(rows, time, (heads + 2 * kv_heads) * dim).bfloat16()
    gains = [number(dim, seed=i).abs() + 0.5 for i in range(2)] if normed else None
    segments = (torch.rand(rows, time, generator=torch.Generator().manual_seed(time)) < breaks).cumsum(1)
    by = rotation(torch.arange(time).expand(rows, time) + torch.arange(rows)[:, None], dim, 10_000.0)
    own, plain = leaves(joined)[0], leaves(joined.float())[0]
    own_gains, plain_gains = (None, None) if gains is None else (leaves(*gains), leaves(*gains))
    mixed = ops.rotated_attention(
        own, None if own_gains is None else (own_gains[0], own_gains[1]), by, segments, heads, kv_heads, EPSILON
    )
    plain_mixed = plain_attention(plain, plain_gains, by, segments, heads, kv_heads)
    grad = number(*mixed.shape, seed=3).bfloat16()
    mixed.backward(grad)
    plain_mixed.backward(grad.float())
    close(mixed, plain_mixed)
    close(own.grad, plain.grad)
    for found, wanted in zip(own_gains or [], plain_gains or []):
        close(found.grad, wanted.grad, 2 * ROUNDING, least=1.0)  # sums in which much cancels


def test_attention_does_not_see_later_positions_or_other_documents() -> None:
    heads, dim, time = 2, 32, 150
    joined = number(1, time, 3 * heads * dim).bfloat16()
    segments = (torch.arange(time) >= 70).long()[None]
    by = rotation(torch.arange(time)[None], dim, 10_000.0)
    before = ops.rotated_attention(joined, None, by, segments, heads, heads, EPSILON)
    changed = joined.clone()
    changed[:, :70] = number(1, 70, 3 * heads * dim, seed=9).bfloat16()
    changed[:, 120:] = number(1, 30, 3 * heads * dim, seed=9).bfloat16()
    after = ops.rotated_attention(changed, None, by, segments, heads, heads, EPSILON)
    assert torch.equal(before[:, 70:120], after[:, 70:120])
    assert not torch.equal(before[:, :70], after[:, :70])


@pytest.mark.parametrize(("smoothing", "z_loss"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.02), (0.1, 0.01)])
def test_losses_and_their_gradient(smoothing: float, z_loss: float) -> None:
    scores, targets = 4 * number(33, 77).bfloat16(), torch.arange(33)
    targets[5] = -100
    weights = number(33).abs()
    plain = scores.float().requires_grad_()
    wanted = F.cross_entropy(plain, targets, reduction="none", ignore_index=-100, label_smoothing=smoothing)
    wanted = wanted + z_loss * plain.logsumexp(-1).square() * (targets != -100)
    (wanted * weights).sum().backward()
    extra = (smoothing, z_loss)
    without = scores.clone()
    assert torch.equal(
        ops.token_losses_(without, targets, None, -100, *extra),
        ops.token_losses_(scores, targets, weights, -100, *extra),
    )
    close(ops.token_losses_(without, targets, None, -100, *extra), wanted.detach())
    close(scores, plain.grad)
    assert scores[5].abs().max() == 0


@pytest.fixture
def one_then_two_threads() -> Iterator[Callable[[Callable[[], list[Tensor]]], None]]:
    threads = torch.get_num_threads()

    def check(compute: Callable[[], list[Tensor]]) -> None:
        torch.set_num_threads(1)
        single = compute()
        torch.set_num_threads(2)
        assert all(torch.equal(a, b) for a, b in zip(single, compute(), strict=True))

    yield check
    torch.set_num_threads(threads)


def test_results_do_not_depend_on_the_number_of_threads(
    one_then_two_threads: Callable[[Callable[[], list[Tensor]]], None],
) -> None:
    heads, dim, time = 2, 32, 100
    joined, gains = number(3, time, 3 * heads * dim).bfloat16(), [torch.ones(dim), torch.ones(dim)]
    by = rotation(torch.arange(time)[None], dim, 10_000.0)

    def compute() -> list[Tensor]:
        own, query_gain, key_gain = leaves(joined, *gains)
        mixed = ops.rotated_attention(own, (query_gain, key_gain), by, None, heads, heads, EPSILON)
        normed, gain = leaves(mixed.detach(), torch.ones(heads * dim))
        y = ops.rms_norm(normed, gain, EPSILON)
        (mixed.float().square().sum() + y.float().square().sum() + y.float().sum()).backward()
        return [mixed, own.grad, query_gain.grad, key_gain.grad, normed.grad, gain.grad]

    one_then_two_threads(compute)


CONFIG = DecoderConfig(
    context_length=40, num_layers=2, hidden_size=48, num_heads=3, num_kv_heads=1, head_dim=16, ffn_size=56
)


STRETCHED = CONFIG.model_copy(update={"rope_scaling": YarnScaling(factor=8.0, original_context_length=10)})


def loss_and_gradients(
    kernels: bool, dtype: torch.dtype, config: DecoderConfig = CONFIG
) -> tuple[Tensor, dict[str, Tensor]]:
    model = build_model(config, vocab_size=90)
    model.initialise(seed=1)
    model.set_compute_dtype(dtype)
    model.set_kernels(kernels)
    tokens = torch.randint(0, 90, (3, 40), generator=torch.Generator().manual_seed(2))
    segments = (torch.arange(40) >= 17).long().expand(3, 40)
    sums, _ = model(tokens, targets=tokens.roll(-1, 1), segments=segments, row_weights=torch.full((3,), 0.01))
    (sums * 0.01).sum().backward()
    return sums.sum().detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("config", [CONFIG, STRETCHED], ids=["plain", "stretched positions"])
def test_a_model_with_kernels_has_the_loss_and_gradients_of_the_plain_one(config: DecoderConfig) -> None:
    exact_loss, exact = loss_and_gradients(False, torch.float32, config)
    _, plain = loss_and_gradients(False, torch.bfloat16, config)
    loss, found = loss_and_gradients(True, torch.bfloat16, config)
    assert abs(loss - exact_loss) < 2e-3 * exact_loss
    for name, wanted in exact.items():
        error, plain_error = (float((g[name] - wanted).norm() / wanted.norm()) for g in (found, plain))
        assert error < max(1.5 * plain_error, 0.01), name


def test_float32_takes_the_plain_way() -> None:
    loss, found = loss_and_gradients(True, torch.float32)
    exact_loss, exact = loss_and_gradients(False, torch.float32)
    assert torch.equal(loss, exact_loss)
    assert all(torch.equal(found[name], exact[name]) for name in exact)


def test_fake_tensors_get_the_shapes_of_real_ones() -> None:
    with FakeTensorMode():
        model = build_model(CONFIG, vocab_size=90)
        model.set_compute_dtype(torch.bfloat16)
        model.set_kernels(True)
        tokens = torch.zeros(3, 40, dtype=torch.int64)
        sums, counts = model(tokens, targets=tokens, segments=tokens, row_weights=torch.ones(3))
        sums.sum().backward()
        assert sums.shape == counts.shape == (3,)
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def test_embedding_norm_with_the_kernel() -> None:
    plain, own = (Embedding(30, 48, norm=True, epsilon=EPSILON) for _ in range(2))
    with torch.no_grad():
        plain.weight.copy_(number(30, 48))
        own.weight.copy_(plain.weight)
    own.fused = True
    tokens, grad = torch.arange(60).view(2, 30) % 30, number(2, 30, 48).bfloat16()
    found, wanted = own(tokens, torch.bfloat16), plain(tokens, torch.float32)
    found.backward(grad)
    wanted.backward(grad.float())
    close(found, wanted)
    close(own.weight.grad, plain.weight.grad)


def test_scaling_of_gradients_replaces_what_is_not_finite() -> None:
    x = torch.tensor([1.0, -2.0, float("nan"), float("inf"), -float("inf"), 3e38, 1e-40, 0.5] * 1000 + [4.0])
    wanted = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0) * 0.5
    ops.scale_finite_(x, torch.tensor(0.5))
    assert torch.equal(x, wanted)
    ops.scale_finite_(x, torch.tensor(1.0))
    assert torch.equal(x, wanted)
