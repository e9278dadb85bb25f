"""The encoder's kernels against the plain formulas in float32, both directions, at sizes that fit no tile evenly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from groundup.kernels import machine, postnorm
from groundup.models import IGNORE, EncoderConfig, LabellerConfig, RowContext, build_model
from groundup.models.noise import row_keys
from tests.kernels.test_ops import close, leaves, number

pytestmark = pytest.mark.skipif(machine.unsupported() is not None, reason=f"kernels: {machine.unsupported()}")


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("rows", "size"), [(1, 16), (7, 40), (130, 384)])
def test_norm_of_a_sum(rows: int, size: int, has_bias: bool) -> None:
    x, branch, grad = (number(rows, size, seed=i).bfloat16() for i in range(3))
    bias, gain, shift = number(size, seed=1), number(size).abs() + 0.5, number(size, seed=2)
    own = leaves(x, branch, gain, shift, bias)
    y = postnorm.add_layer_norm(own[0], own[1], own[4] if has_bias else None, own[2], own[3], 1e-5)
    y.backward(grad)
    plain = leaves(x.float(), branch.float(), gain, shift, bias)
    total = plain[0] + plain[1] + (plain[4] if has_bias else 0)
    plain_y = F.layer_norm(total, (size,), plain[2], plain[3], 1e-5)
    plain_y.backward(grad.float())
    close(y, plain_y)
    for found, wanted in zip(own, plain):
        assert (found.grad is None) == (wanted.grad is None)
        if found.grad is not None and wanted.grad is not None:
            close(found.grad, wanted.grad)


def test_norm_of_what_has_a_large_mean() -> None:
    x = (number(4, 64) + 100).bfloat16()
    y = postnorm.add_layer_norm(x, torch.zeros_like(x), None, torch.ones(64), torch.zeros(64), 1e-12)
    close(y, F.layer_norm(x.float(), (64,), eps=1e-12))


@pytest.mark.parametrize("size", [16, 24, 100])
def test_gelu_is_the_exact_one(size: int) -> None:
    x, bias, grad = 3 * number(70, size).bfloat16(), number(size), number(70, size, seed=1).bfloat16()
    x[0, :4] = torch.tensor([-30.0, 30.0, 0.0, -5.0])
    own, plain = leaves(x, bias), leaves(x.float(), bias)
    y, plain_y = postnorm.gelu(*own), F.gelu(plain[0] + plain[1])
    y.backward(grad)
    plain_y.backward(grad.float())
    assert (y.float() - plain_y).abs().max() <= 0.005 * plain_y.abs().max()
    for found, wanted in zip((y, *(each.grad for each in own)), (plain_y, *(each.grad for each in plain))):
        assert found is not None
        assert wanted is not None
        close(found, wanted)


@settings(max_examples=25, deadline=None)
@given(
    time=st.integers(1, 150),
    heads=st.integers(1, 3),
    dim=st.sampled_from([16, 48, 64]),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    packed=st.booleans(),
)
def test_attention_in_both_directions(time: int, heads: int, dim: int, lengths: list[int], packed: bool) -> None:
    segments = torch.repeat_interleave(torch.tensor([*range(len(lengths)), 9]), torch.tensor([*lengths, time]))[:time]
    rows = 2
    segments = torch.stack([segments, torch.zeros_like(segments)]).to(torch.int32)
    joined, grad = number(rows, time, 3 * heads * dim).bfloat16(), number(rows, time, heads * dim).bfloat16()
    own, plain = joined.clone().requires_grad_(), joined.float().requires_grad_()
    mixed = postnorm.both_ways_attention(own, segments if packed else None, heads)
    mixed.backward(grad)
    query, key, value = (part.unflatten(-1, (heads, dim)).transpose(1, 2) for part in plain.chunk(3, dim=-1))
    mask = (segments[:, :, None] == segments[:, None])[:, None] if packed else None
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    wanted.backward(grad.float())
    close(mixed, wanted)
    assert own.grad is not None
    assert plain.grad is not None
    close(own.grad, plain.grad)


CONFIG = EncoderConfig(
    kind="encoder", context_length=40, num_layers=2, hidden_size=64, num_heads=2, ffn_size=96, next_sentence=True
)


def gradients(model: Any, tokens: Tensor, context: RowContext | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    targets = torch.full((len(tokens), 2, 40), IGNORE)
    targets[:, 0, 5:11], targets[:, 1, 0] = tokens[:, 5:11], 1
    segments = (torch.arange(40) >= 25).int().expand_as(tokens)
    model.zero_grad()
    sums, _ = model(tokens, targets=targets, segments=segments, context=context)
    sums.sum().backward()
    return sums.detach(), {name: each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize(
    "noise",
    [{}, {"residual_dropout": 0.2, "stochastic_depth": 0.3}, {"attention_dropout": 0.2, "embedding_dropout": 0.1}],
)
def test_an_encoder_computes_the_same_with_and_without(noise: dict[str, float]) -> None:
    """What is dropped is the same too: so both ways must agree to rounding."""
    tokens = torch.randint(0, 50, (3, 40), generator=torch.Generator().manual_seed(1))
    context = RowContext(row_keys(1, 2, torch.arange(3)))
    found = []
    for on in (True, False):
        model = build_model(CONFIG.model_copy(update=noise), 50)
        model.initialise(2)
        model.set_compute_dtype(torch.bfloat16)
        model.set_kernels(on)
        found.append(gradients(model, tokens, context))
    (sums, own), (plain_sums, plain) = found
    close(sums, plain_sums)
    for name in own:
        close(own[name], plain[name], rounding=0.05)


@pytest.mark.parametrize("packed", [True, False])
def test_few_texts_in_a_row_are_judged_the_same(packed: bool) -> None:
    """Where it is known how few texts there are, the last layer asks for them alone."""
    tokens = torch.randint(0, 50, (3, 40), generator=torch.Generator().manual_seed(1))
    targets = torch.full((3, 40), IGNORE)
    targets[:, 0], targets[0, 25], targets[1, 25] = torch.tensor([0, 1, 2]), 1, 0
    segments = (torch.arange(40) >= 25).int().expand_as(tokens) if packed else None
    found = []
    for texts, on in ((2, True), (0, True), (2, False)):
        model = build_model(LabellerConfig.on(CONFIG, "sequence", ("a", "b", "c"), texts), 50)
        model.initialise(2)
        model.set_compute_dtype(torch.bfloat16)
        model.set_kernels(on)
        sums, _ = model(tokens, targets=targets, segments=segments)
        sums.sum().backward()
        found.append((sums.detach(), {name: each.grad for name, each in model.named_parameters()}))
    for sums, others in found[1:]:
        close(found[0][0], sums)
        for name, gradient in found[0][1].items():
            close(gradient, others[name], rounding=0.05)


def test_shapes_of_fakes_are_those_of_the_kernels() -> None:
    with FakeTensorMode():
        joined = torch.empty(2, 30, 96, dtype=torch.bfloat16)
        mixed, log_sums = torch.ops.groundup.both_ways(joined, None, 2)
        assert (mixed.shape, log_sums.shape) == ((2, 30, 32), (2, 2, 30))
        assert torch.ops.groundup.column_sums(joined).shape == (64, 96)
