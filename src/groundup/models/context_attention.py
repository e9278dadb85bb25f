"""Causal attention of a rank's part of each row to the keys of all ranks: by gathering them, or as a ring.

    gather   all keys and values to every rank, then attention of its two chunks of queries; exact to rounding
    ring     keys and values go from rank to rank; each meets them in small blocks and keeps, for every query, the
             largest score, the sum of the weights and the mixed values so far (online softmax). Memory does not grow
             with the row (Liu et al. 2023, arXiv 2310.01889); the backward makes the round again, the gradients of keys
             and values travelling with them and arriving at home with the last step.

Blocks of keys that no query of a block may see (later ones, those before the window) are left out by arithmetic on
positions, the same for all rows. Invariant: both ways give what `attention.attend` gives for the whole row, to
rounding, documents, window and dropped weights included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.models.noise import ATTENTION_WEIGHTS, kept_at
from groundup.models.row_part import Range, RowPart

QUERIES, KEYS = 512, 2048
"""Positions of a block of the ring; its scores are 4 MB of float32 a head."""
_LOWEST = -1e30
"""Below every score, yet finite, so that a block in which a query sees nothing gives no NaN."""


class WeightNoise(NamedTuple):
    """What is dropped of the attention weights of whole rows, of which any block can be asked for."""

    keys: Int32[Tensor, " rows"]
    rate: float
    blocks: Sequence[Range]
    """Blocks of queries in which the whole row is computed: each has random numbers of its own."""
    window: int | None
    part: int = 0
    """Which of equal parts of the heads is at hand, where ranks share the layers too."""

    def scales(self, heads: int, queries: Range, keys: Range) -> Float[Tensor, "rows heads queries keys"]:
        """0 where a weight is dropped, else what it is multiplied by; `queries` lie within one block."""
        start, end = next(block for block in self.blocks if block[0] <= queries[0] < block[1])
        first = 0 if self.window is None else max(0, start - self.window + 1)
        at, of = _places(queries, self.keys.device) - start, _places(keys, self.keys.device) - first
        numbers = torch.arange(self.part * heads, (self.part + 1) * heads, device=self.keys.device, dtype=torch.int32)
        by_head = numbers[:, None, None] * (end - start)
        kept = kept_at(self.keys + end, ATTENTION_WEIGHTS, (by_head + at[:, None]) * (end - first) + of, self.rate)
        return torch.where(kept, 1 / (1 - self.rate), 0.0)


def part_attention(
    query: Float[Tensor, "rows heads time head_dim"],
    key: Float[Tensor, "rows kv_heads time head_dim"],
    value: Float[Tensor, "rows kv_heads time head_dim"],
    part: RowPart,
    window: int | None = None,
    noise: WeightNoise | None = None,
) -> Float[Tensor, "rows heads time head_dim"]:
    """Causal attention within documents (and a window) of this rank's positions; num_heads: a multiple of num_kv_heads.

    Every rank of the line must call it.
    """
    if not part.uses_ring:
        return _gathered(query, key, value, part, window, noise)
    grouped = query.reshape(len(query), key.shape[1], -1, *query.shape[2:])
    mixed: Tensor = _Ring.apply(grouped, key, value, _Plan(part, window, noise))  # type: ignore[no-untyped-call]
    return mixed.flatten(1, 2)


def seen(
    segments: Int[Tensor, "rows length"] | None, queries: Range, keys: Range, window: int | None, device: torch.device
) -> Bool[Tensor, "batch 1 1 queries keys"] | None:
    """Which keys each query may see: not later ones, of the same document, within the window; None: all of them."""
    causal = keys[1] - 1 > queries[0]
    narrow = window is not None and queries[1] - 1 - keys[0] >= window
    if segments is None and not causal and not narrow:
        return None
    at, of = _places(queries, device)[:, None], _places(keys, device)
    mask = (of <= at)[None]
    if window is not None:
        mask = mask & (at - of < window)
    if segments is not None:
        mask = mask & (segments[:, slice(*queries), None] == segments[:, None, slice(*keys)])
    return mask[:, None, None]


def _gathered(
    query: Tensor, key: Tensor, value: Tensor, part: RowPart, window: int | None, noise: WeightNoise | None
) -> Tensor:
    key, value = part.whole(torch.stack((key, value)), dim=3)
    mixed = []
    for queries, mine in _pieces(part.ranges(), part.length, noise):
        first = 0 if window is None else max(0, queries[0] - window + 1)
        keys = (first, queries[1])
        mask = seen(part.segments, queries, keys, window, query.device)
        asking, asked = query[:, :, mine], (key[:, :, slice(*keys)], value[:, :, slice(*keys)])
        if noise is None:
            by_head = None if mask is None else mask[:, 0]
            grouped = query.shape[1] != key.shape[1]
            mixed.append(F.scaled_dot_product_attention(asking, *asked, attn_mask=by_head, enable_gqa=grouped))
        else:
            mixed.append(_dropping(asking, *asked, mask, noise.scales(query.shape[1], queries, keys)))
    return torch.cat(mixed, dim=2)


def _dropping(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scales: Tensor) -> Tensor:
    """Attention operator by operator, whose weights are multiplied by `scales`; softmax in float32."""
    rows, heads, time, head_dim = query.shape
    kv_heads = key.shape[1]
    scores = (query.reshape(rows, kv_heads, -1, head_dim) @ key.transpose(-1, -2)).float() * head_dim**-0.5
    scores = scores.view(rows, kv_heads, -1, time, key.shape[2])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1).to(query.dtype) * scales.to(query.dtype).view(scores.shape)
    return (weights.flatten(2, 3) @ value).view(rows, heads, time, head_dim)


class _Plan(NamedTuple):
    part: RowPart
    window: int | None
    noise: WeightNoise | None

    def blocks(self, source: int) -> Iterator[tuple[Range, slice, Range, slice]]:
        """Blocks of own queries and of keys that come from rank `source`, of which some may be seen: where they lie in
        the row, and in what the rank has.
        """
        part = self.part
        for keys, there in _pieces(part.ranges(source), KEYS):
            for queries, here in _pieces(part.ranges(), QUERIES, self.noise):
                beyond = self.window is not None and queries[0] - (keys[1] - 1) >= self.window
                if keys[0] < queries[1] and not beyond:
                    yield queries, here, keys, there

    def scores(self, query: Tensor, key: Tensor, queries: Range, keys: Range) -> Tensor:
        """Float32 [rows, kv_heads, group, queries, keys], minus infinity where a query does not see a key."""
        rows, kv_heads, group, time, head_dim = query.shape
        scores = (query.reshape(rows, kv_heads, -1, head_dim) @ key.transpose(-1, -2)).float() * head_dim**-0.5
        scores = scores.view(rows, kv_heads, group, time, key.shape[2])
        mask = seen(self.part.segments, queries, keys, self.window, query.device)
        return scores if mask is None else torch.masked_fill(scores, ~mask, float("-inf"))

    def scales(self, scores: Tensor, queries: Range, keys: Range) -> Tensor | None:
        """What noise multiplies the weights by, in the shape of the scores."""
        if self.noise is None:
            return None
        return self.noise.scales(scores.shape[1] * scores.shape[2], queries, keys).view(scores.shape)


class _Ring(torch.autograd.Function):
    """Attention while keys and values make their round; the backward makes it again, nothing of it is kept."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: _Plan) -> Tensor:
        line = plan.part.line
        mixed = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
        highest = torch.full(query.shape[:-1], _LOWEST, dtype=torch.float32, device=query.device)
        total = torch.zeros_like(highest)
        held = torch.stack((key, value))
        for step in range(line.size):
            coming = line.pass_on(held) if step + 1 < line.size else None
            for queries, here, keys, there in plan.blocks((line.rank - step) % line.size):
                scores = plan.scores(query[..., here, :], held[0][:, :, there], queries, keys)
                top = torch.maximum(highest[..., here], scores.amax(-1))
                weights = torch.exp(scores - top[..., None])
                fading = torch.exp(highest[..., here] - top)
                total[..., here] = total[..., here] * fading + weights.sum(-1)
                scales = plan.scales(scores, queries, keys)
                weights = weights if scales is None else weights * scales
                found = _by_group(weights.to(value.dtype), held[1][:, :, there])
                mixed[..., here, :] = mixed[..., here, :] * fading[..., None] + found
                highest[..., here] = top
            held = held if coming is None else coming()
        # Laid out by position, as the output matrix reads it: a copy for it would be kept for the backward as well.
        mixed = (mixed / total[..., None]).to(query.dtype).permute(0, 3, 1, 2, 4).contiguous().permute(0, 2, 3, 1, 4)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, mixed, highest + total.log())
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, log_total = ctx.saved_tensors
        plan: _Plan = ctx.plan
        line = plan.part.line
        by_query = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
        gradient = gradient.contiguous()
        own = (gradient.float() * mixed.float()).sum(-1)
        held, behind = torch.stack((key, value)), None
        for step in range(line.size):
            coming = line.pass_on(held) if step + 1 < line.size else None
            by_held = torch.zeros(held.shape, dtype=torch.float32, device=held.device)
            for queries, here, keys, there in plan.blocks((line.rank - step) % line.size):
                asking, by_mixed = query[..., here, :], gradient[..., here, :]
                asked = held[0][:, :, there]
                scores = plan.scores(asking, asked, queries, keys)
                weights = torch.exp(scores - log_total[..., here, None])
                by_weights = _by_group(by_mixed, held[1][:, :, there].transpose(-1, -2))
                used, scales = weights, plan.scales(scores, queries, keys)
                if scales is not None:
                    used, by_weights = weights * scales, by_weights * scales
                by_scores = weights * (by_weights - own[..., here, None]) * query.shape[-1] ** -0.5
                by_scores = by_scores.to(query.dtype)
                by_query[..., here, :] += _by_group(by_scores, asked)
                by_held[0][:, :, there] += _over_group(by_scores, asking)
                by_held[1][:, :, there] += _over_group(used.to(query.dtype), by_mixed)
            # Gradients follow the keys and values that they are of, one rank behind them.
            by_held = by_held if behind is None else by_held + behind()
            behind = line.pass_on(by_held)
            held = held if coming is None else coming()
        assert behind is not None, "a line has ranks"
        by_key, by_value = behind().to(key.dtype)
        return by_query.to(query.dtype), by_key, by_value, None


def _by_group(left: Tensor, right: Tensor) -> Tensor:
    """[rows, kv_heads, group, a, b] by [rows, kv_heads, b, c] -> float32 [rows, kv_heads, group, a, c]."""
    return (left.flatten(2, 3) @ right).float().view(*left.shape[:-1], right.shape[-1])


def _over_group(left: Tensor, right: Tensor) -> Tensor:
    """Sum over group and a: [rows, kv_heads, group, a, b] and [..., a, c] -> float32 [rows, kv_heads, b, c]."""
    return (left.flatten(2, 3).transpose(-1, -2) @ right.flatten(2, 3)).float()


def _pieces(ranges: Sequence[Range], size: int, noise: WeightNoise | None = None) -> Iterator[tuple[Range, slice]]:
    """Ranges cut into pieces of at most `size`, and where noise begins anew; each with its place among all of them."""
    at = 0
    for start, end in ranges:
        borders = {start, *range(start, end, size)}
        if noise is not None:
            borders |= {first for first, _ in noise.blocks if start < first < end}
        ordered = [*sorted(borders), end]
        for first, last in pairwise(ordered):
            yield (first, last), slice(at + first - start, at + last - start)
        at += end - start


def _places(positions: Range, device: torch.device) -> Int32[Tensor, " positions"]:
    return torch.arange(*positions, device=device, dtype=torch.int32)
