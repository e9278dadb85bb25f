"""Matrices in few bits: how far they are from what they were, and that the same weights give the same codes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.models.quantised import LEVELS, Format, QuantisedMatrix, group_size

FORMATS: tuple[Format, ...] = ("int8", "nf4")


def matrix(rows: int, columns: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 130), st.integers(0, 99), st.sampled_from(FORMATS), st.floats(1e-6, 1e6))
def test_each_weight_is_as_near_as_the_levels_allow(
    rows: int, columns: int, seed: int, kind: Format, spread: float
) -> None:
    before = matrix(rows, columns, seed, spread).bfloat16().float()
    found = QuantisedMatrix(kind, before).matrix(torch.float32)
    size = group_size(columns)
    scales = before.view(-1, size).abs().amax(1, keepdim=True)
    gaps = [b - a for a, b in itertools.pairwise(LEVELS)]
    step = 1 / 127 if kind == "int8" else max(gaps)
    assert found.shape == before.shape
    assert ((found - before).view(-1, size).abs() <= (0.5 * step + 1e-5) * scales).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_kept_in_bfloat16_give_the_same_codes(kind: Format) -> None:
    weights = matrix(8, 64, 1)
    for before in (weights, weights.bfloat16()):
        made = QuantisedMatrix(kind, before)
        torch.testing.assert_close(made.codes, QuantisedMatrix(kind, weights).codes, rtol=0, atol=0)
        torch.testing.assert_close(made.scales, QuantisedMatrix(kind, weights).scales, rtol=0, atol=0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_of_zeros_stays_one(kind: Format) -> None:
    assert not QuantisedMatrix(kind, torch.zeros(3, 5)).matrix(torch.float32).any()


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.5), ("nf4", 4.5)])
def test_bits_of_a_weight(kind: Format, bits: float) -> None:
    made = QuantisedMatrix(kind, matrix(64, 128, 2))
    held = sum(p.numel() * p.element_size() for p in made.parameters())
    assert held * 8 / (64 * 128) == bits


def test_nf4_is_what_torchao_makes_of_it() -> None:
    torchao = pytest.importorskip("torchao.quantization.quantize_.workflows", reason="torchao is not installed")
    weights = matrix(64, 128, 3).bfloat16().float()
    theirs = torchao.NF4Tensor.from_tensor(weights, 64, 128).get_original_weight()
    # torchao rounds the scales to 8 bits as well.
    torch.testing.assert_close(QuantisedMatrix("nf4", weights).matrix(torch.float32), theirs, rtol=0.02, atol=1e-3)
