from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from groundup.models import attention
from groundup.models.attention import cached_attention, sdpa_attention


def heads_of(rows: int, heads: int, kv_heads: int, time: int, head_dim: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, heads, time, head_dim), (rows, kv_heads, time, head_dim), (rows, kv_heads, time, head_dim))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def segments_of(rows: int, time: int, seed: int) -> torch.Tensor:
    starts = torch.rand(rows, time, generator=torch.Generator().manual_seed(seed)) < 0.2
    return starts.int().cumsum(1).int()


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    time=st.integers(1, 40),
    half_dim=st.integers(1, 5),
    num_blocks=st.integers(1, 5),
    isolated=st.booleans(),
    seed=st.integers(0, 99),
)
def test_blocks_equal_sdpa_in_values_and_gradients(
    rows: int, kv_heads: int, group: int, time: int, half_dim: int, num_blocks: int, isolated: bool, seed: int
) -> None:
    qkv = heads_of(rows, kv_heads * group, kv_heads, time, 2 * half_dim, seed)
    segments = segments_of(rows, time, seed) if isolated else None
    direction = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(seed + 1))
    blocks = attention.block_causal_attention(*qkv, segments, num_blocks)
    fused = sdpa_attention(*qkv, segments)
    torch.testing.assert_close(blocks, fused, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad((blocks * direction).sum(), qkv), torch.autograd.grad((fused * direction).sum(), qkv)
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(time=st.integers(1, 20), new=st.integers(1, 20), seed=st.integers(0, 99))
def test_cached_attention_is_the_end_of_causal_attention(time: int, new: int, seed: int) -> None:
    query, key, value = heads_of(2, 4, 2, time + new, 6, seed)
    whole = sdpa_attention(query, key, value, None)[:, :, time:]
    torch.testing.assert_close(cached_attention(query[:, :, time:], key, value), whole, atol=1e-5, rtol=1e-5)


def test_a_wrong_shape_is_caught() -> None:
    query, key, value = heads_of(2, 4, 2, 8, 6, 0)
    with pytest.raises(TypeCheckError):
        attention.sdpa_attention(query, key, value[:, :, :7], None)


@pytest.mark.parametrize("segmented", [False, True])
@settings(max_examples=12, deadline=None)
@given(time=st.integers(1, 24), window=st.integers(1, 30), blocks=st.integers(1, 4))
def test_a_window_leaves_the_last_positions_only(segmented: bool, time: int, window: int, blocks: int) -> None:
    generator = torch.Generator().manual_seed(time)
    query, key, value = (torch.randn(2, heads, time, 4, generator=generator) for heads in (4, 2, 2))
    segments = (torch.arange(time) // 7)[None].expand(2, -1) if segmented else None
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) / 2
    distance = torch.arange(time)[:, None] - torch.arange(time)
    seen = (distance >= 0) & (distance < window)
    if segments is not None:
        seen = seen & (segments[0][:, None] == segments[0])
    expected = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value.repeat_interleave(2, 1)
    in_blocks = attention.block_causal_attention(query, key, value, segments, blocks, window)
    torch.testing.assert_close(in_blocks, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sdpa_attention(query, key, value, segments, window), expected, atol=1e-5, rtol=1e-5)
    if not segmented:
        last = query[:, :, -3:]
        torch.testing.assert_close(
            cached_attention(last, key, value, window), expected[:, :, -3:], atol=1e-5, rtol=1e-5
        )
