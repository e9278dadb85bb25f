"""Causal attention with documents kept apart: query, key, value -> mixed values, by the way that is fast here.

    kernel     our own (groundup.kernels): bfloat16 on a CPU that has avx512_bf16; nothing below is used then
    segments   0 0 0 1 1 1 1 2        a position sees the earlier positions of its own segment, itself included
    blocks     queries in blocks; block i meets keys 0 .. its own end, so most of the masked part is never computed:
               # . . .
               # # . .      compiled on a 2-core CPU 2.3 times as fast as the fused kernel (forward and backward,
               # # # .      bfloat16, 512 positions); uncompiled it is the slower one
               # # # #
    sdpa       torch's fused kernel: uncompiled, for long contexts (memory linear in time), and on GPUs (not measured
               there: the mask that segments need keeps it from the flash kernel)

A window leaves each position only its last so many, itself included (Mistral, arXiv 2310.06825).

Invariant: both ways give the same numbers to rounding, and what a position gets never depends on later positions or
on another segment.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from groundup.kernels import ops
from groundup.models.context_attention import WeightNoise, part_attention
from groundup.models.lane import Lane
from groundup.models.layers import Linear, joined_linear, norm_of
from groundup.models.noise import ATTENTION_WEIGHTS, LayerNoise, dropout
from groundup.models.rotary import Rotation, rotate
from groundup.models.row_part import Range, RowPart

AttentionKind = Literal["auto", "blocks", "sdpa"]
MAX_BLOCKS = 4
MIN_BLOCK_QUERIES = 192
"""Smaller blocks save nothing (at 256 positions 1, 2 and 4 blocks are equally fast), but each costs compile time."""
BLOCKS_TIME_LIMIT = 2048
"""Beyond this many positions the scores of the block form cost more memory than they are worth; `auto` takes sdpa."""

Heads = Float[Tensor, "rows heads time head_dim"]
KeyValueHeads = Float[Tensor, "rows kv_heads keys head_dim"]


def attend(
    query: Heads,
    key: KeyValueHeads,
    value: KeyValueHeads,
    segments: Int[Tensor, "rows time"] | None,
    kind: AttentionKind = "auto",
    window: int | None = None,
    noise: LayerNoise | None = None,
    rate: float = 0.0,
) -> Heads:
    """Causal attention over equally long queries and keys; num_heads is a multiple of num_kv_heads.

    With `noise` a share `rate` of the attention weights is dropped, which the block form alone can do.
    """
    time = query.shape[2]
    dropping = noise is not None and rate > 0
    if dropping:
        kind = "blocks"
    if kind == "auto":
        blocks = query.device.type == "cpu" and time <= BLOCKS_TIME_LIMIT and torch.compiler.is_compiling()
        kind = "blocks" if blocks else "sdpa"
    if kind == "sdpa":
        return sdpa_attention(query, key, value, segments, window)
    return block_causal_attention(
        query, key, value, segments, number_of_blocks(time), window, noise if dropping else None, rate
    )


def number_of_blocks(time: int) -> int:
    """In how many blocks the queries of a row are computed."""
    return min(MAX_BLOCKS, max(1, time // MIN_BLOCK_QUERIES))


def query_blocks(time: int, num_blocks: int) -> list[Range]:
    """Those blocks."""
    size = -(-time // num_blocks)
    return [(start, min(start + size, time)) for start in range(0, time, size)]


def block_causal_attention(
    query: Heads,
    key: KeyValueHeads,
    value: KeyValueHeads,
    segments: Int[Tensor, "rows time"] | None,
    num_blocks: int,
    window: int | None = None,
    noise: LayerNoise | None = None,
    rate: float = 0.0,
) -> Heads:
    """Causal attention as matrix products over `num_blocks` blocks of queries; softmax in float32.

    Heads that share a key (grouped queries) are laid behind each other in time, so keys are never repeated.
    """
    rows, heads, time, head_dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, time, head_dim)
    mixed = []
    for start, end in query_blocks(time, num_blocks):
        first = 0 if window is None else max(0, start - window + 1)
        block = grouped[:, :, :, start:end].reshape(rows, kv_heads, -1, head_dim)
        scores = (block @ key[:, :, first:end].transpose(-1, -2)).float() * head_dim**-0.5
        scores = scores.view(rows, kv_heads, -1, end - start, end - first)
        allowed = visible(segments, start, end, query.device, window)[..., first:]
        scores = scores.masked_fill(~allowed, float("-inf"))
        weights = torch.softmax(scores, dim=-1).to(query.dtype).view(rows, kv_heads, -1, end - first)
        if noise is not None:
            # Keys differ by the block's end, so that no two blocks drop alike.
            weights = dropout(weights, noise.keys + end, ATTENTION_WEIGHTS, rate, noise.heads(kv_heads))
        mixed.append((weights @ value[:, :, first:end]).view(rows, kv_heads, -1, end - start, head_dim))
    return torch.cat(mixed, dim=3).view(rows, heads, time, head_dim)


def visible(
    segments: Int[Tensor, "rows time"] | None, start: int, end: int, device: torch.device, window: int | None = None
) -> Bool[Tensor, "batch 1 1 queries keys"]:
    """Which keys 0..end the queries start..end may see: not later ones, of the same segment, within the window."""
    positions = torch.arange(end, device=device)
    causal = positions[start:, None] >= positions
    if window is not None:
        causal = causal & (positions[start:, None] - positions < window)
    if segments is None:
        return causal[None, None, None]
    same = segments[:, start:end, None] == segments[:, None, :end]
    return (causal & same)[:, None, None]


def sdpa_attention(
    query: Heads,
    key: KeyValueHeads,
    value: KeyValueHeads,
    segments: Int[Tensor, "rows time"] | None,
    window: int | None = None,
) -> Heads:
    """Causal attention by torch's fused kernel; segments and window become a boolean mask [rows, 1, time, time]."""
    grouped = query.shape[1] != key.shape[1]
    if segments is None and window is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    mask = visible(segments, 0, query.shape[2], query.device, window)[:, 0]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)


def cached_attention(query: Heads, key: KeyValueHeads, value: KeyValueHeads, window: int | None = None) -> Heads:
    """Attention of the last `time` positions over all `keys` positions up to them, as decoding needs it."""
    time, keys = query.shape[2], key.shape[2]
    if window is not None and keys >= time + window:
        key, value, keys = key[:, :, 1 - time - window :], value[:, :, 1 - time - window :], time + window - 1
    grouped = query.shape[1] != key.shape[1]
    mask = None if time == 1 else visible(None, keys - time, keys, query.device, window)[:, 0]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values; rotary positions, norms of queries and keys, biases, window.

    The layer is told by its arguments what it has; rotary positions by whether the call brings angles.
    """

    fused = False
    """Use the kernel where the input is bfloat16."""
    dropout = 0.0
    """Share of the attention weights that is dropped where there is noise."""
    lane: Lane | None = None
    """Ranks of which each has some heads."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        qk_norm: bool,
        epsilon: float,
        norm: Literal["rms", "layer"] = "rms",
        bias: Literal["none", "qkv", "all"] = "none",
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.head_dim, self.num_heads, self.num_kv_heads = head_dim, num_heads, num_kv_heads
        self.epsilon = epsilon
        self.kind: AttentionKind = "auto"
        self.query = Linear(hidden_size, num_heads * head_dim, bias=bias != "none")
        self.key = Linear(hidden_size, num_kv_heads * head_dim, bias=bias != "none")
        self.value = Linear(hidden_size, num_kv_heads * head_dim, bias=bias != "none")
        self.output = Linear(num_heads * head_dim, hidden_size, bias=bias == "all")
        self.query_norm = norm_of(norm, head_dim, epsilon) if qk_norm else None
        self.key_norm = norm_of(norm, head_dim, epsilon) if qk_norm else None

    def forward(
        self,
        x: Float[Tensor, "rows own hidden"],
        by: Rotation | None,
        segments: Int[Tensor, "rows time"] | None,
        noise: LayerNoise | None = None,
        part: RowPart | None = None,
    ) -> Float[Tensor, "rows own hidden"]:
        """Each position mixed with the earlier ones of its segment; of several ranks each has its own part of time.

        `part`: also with positions that other ranks have, where rows are split.
        """
        x = x if self.lane is None else self.lane.gather(x)
        dropping = noise is not None and self.dropout > 0
        if part is not None:
            return self._merge(part_attention(*self._project(x, by), part, self.window, self._of_whole(noise, part)))
        if self.fused and by is not None and x.dtype == torch.bfloat16 and not dropping:
            return self._fused(x, by, segments)
        return self._merge(attend(*self._project(x, by), segments, self.kind, self.window, noise, self.dropout))

    def _of_whole(self, noise: LayerNoise | None, part: RowPart) -> WeightNoise | None:
        """What is dropped of the attention weights of the rows that `part` belongs to."""
        if noise is None or self.dropout == 0:
            return None
        blocks = query_blocks(part.length, number_of_blocks(part.length))
        return WeightNoise(noise.keys, self.dropout, blocks, self.window, noise.part)

    def _fused(
        self, x: Float[Tensor, "rows time hidden"], by: Rotation, segments: Int[Tensor, "rows time"] | None
    ) -> Float[Tensor, "rows time hidden"]:
        joined = joined_linear(x, (self.query, self.key, self.value))
        norms = (self.query_norm, self.key_norm)
        gains = None if norms[0] is None or norms[1] is None else (norms[0].weight, norms[1].weight)
        mixed = ops.rotated_attention(joined, gains, by, segments, self.num_heads, self.num_kv_heads, self.epsilon)
        y: Tensor = self.output(mixed)
        return y

    def cached(
        self,
        x: Float[Tensor, "rows time hidden"],
        by: Rotation | None,
        keys: Float[Tensor, "rows kv_heads max_time head_dim"],
        values: Float[Tensor, "rows kv_heads max_time head_dim"],
        length: int,
    ) -> Float[Tensor, "rows time hidden"]:
        """Write the new keys and values at `length` into the cache (in place) and attend to all up to there."""
        query, key, value = self._project(x, by)
        end = length + x.shape[1]
        keys[:, :, length:end] = key
        values[:, :, length:end] = value
        if length == 0:
            return self._merge(attend(query, key, value, None, self.kind, self.window))
        mixed = cached_attention(query, keys[:, :, :end].to(x.dtype), values[:, :, :end].to(x.dtype), self.window)
        return self._merge(mixed)

    def _project(
        self, x: Float[Tensor, "rows time hidden"], by: Rotation | None
    ) -> tuple[Heads, KeyValueHeads, KeyValueHeads]:
        query, key, value = (
            projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projected in (self.query(x), self.key(x), self.value(x))
        )
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        return (query, key, value) if by is None else (rotate(query, by), rotate(key, by), value)

    def _merge(self, mixed: Heads) -> Float[Tensor, "rows time hidden"]:
        merged: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return merged
