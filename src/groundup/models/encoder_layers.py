"""Layers of the BERT layout: attention in both directions, and the block.

    x -> attention -> + x -> norm -> up, GELU, down -> + -> norm          (post-norm, Vaswani et al. 2017)

Invariant: a layer answers in the dtype of its input and holds no buffer; a position sees its own segment only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from groundup.kernels import postnorm, products
from groundup.models.layers import FeedForward, LayerNorm, Linear, joined_linear
from groundup.models.noise import (
    ATTENTION_BRANCH,
    ATTENTION_WEIGHTS,
    FFN_BRANCH,
    LayerNoise,
    NoiseConfig,
    dropout,
    residual_branch,
)

FEW_PLACES = 8
"""Where at most one of so many positions is wanted, the last layer computes these alone; else the kernel is faster."""


class Sight(NamedTuple):
    """What positions see, made once for all layers: by the kernel or by a mask; neither: all of the row."""

    segments: Int32[Tensor, "rows time"] | None
    """For the kernel: a position sees its own."""
    mask: Float[Tensor, "rows 1 time time"] | None
    """For torch: what is added to scores, 0 or minus infinity."""

    def mask_at(self, only: Int[Tensor, "rows places"]) -> Float[Tensor, "rows 1 places time"] | None:
        """What is added to the scores of some places of each row, where segments are known."""
        return None if self.segments is None else _mask(self.segments.gather(1, only), self.segments, torch.float32)


def sight(segments: Int[Tensor, "rows time"] | None, dtype: torch.dtype, *, kernel: bool) -> Sight:
    """What positions of these segments see; None: all are one."""
    if segments is None:
        return Sight(None, None)
    if kernel:
        return Sight(segments.to(torch.int32).contiguous(), None)
    return Sight(None, _mask(segments, segments, dtype))


def _mask(
    asking: Int[Tensor, "rows places"], asked: Int[Tensor, "rows time"], dtype: torch.dtype
) -> Float[Tensor, "rows 1 places time"]:
    other = (asking[:, :, None] != asked[:, None, :])[:, None]
    return torch.zeros(other.shape, dtype=dtype, device=other.device).masked_fill(other, float("-inf"))


class BidirectionalAttention(nn.Module):
    """Multi-head attention of every position to all positions of its segment."""

    fused = False
    """Use the kernels where the input is bfloat16."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query = Linear(hidden_size, hidden_size, bias=True)
        self.key = Linear(hidden_size, hidden_size, bias=True)
        self.value = Linear(hidden_size, hidden_size, bias=True)
        self.output = Linear(hidden_size, hidden_size, bias=True)

    def mixed(
        self, x: Float[Tensor, "rows time hidden"], seen: Sight, noise: LayerNoise | None
    ) -> Float[Tensor, "rows time hidden"]:
        """Values of each position mixed with those of what it sees; what `output` reads."""
        dropping = noise is not None and self.dropout > 0
        layers = (self.query, self.key, self.value)
        if self.fused and x.dtype == torch.bfloat16:
            joined = joined_linear(x, layers)
            if not dropping:
                return postnorm.both_ways_attention(joined, seen.segments, self.num_heads)
            parts = joined.chunk(3, dim=-1)
        else:
            parts = tuple(layer(x) for layer in layers)
        query, key, value = (heads_of(part, self.num_heads) for part in parts)
        if noise is not None and dropping:
            mixed = weighted(query, key, value, seen.mask, noise, self.dropout)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen.mask)
        return mixed.transpose(1, 2).flatten(2)

    def mixed_at(
        self,
        x: Float[Tensor, "rows time hidden"],
        only: Int[Tensor, "rows places"],
        seen: Sight,
        noise: LayerNoise | None,
    ) -> Float[Tensor, "rows places hidden"]:
        """As `mixed`, at some places of each row."""
        few = only.shape[1] * FEW_PLACES <= x.shape[1] and (noise is None or self.dropout == 0)
        if not (few and self.fused and x.dtype == torch.bfloat16):
            return states_at(self.mixed(x, seen, noise), only)
        joined = joined_linear(x, (self.key, self.value))
        parts = (self.query(states_at(x, only)), *joined.chunk(2, dim=-1))
        query, key, value = (heads_of(part, self.num_heads) for part in parts)
        return weighted(query, key, value, seen.mask_at(only)).transpose(1, 2).flatten(2)


def heads_of(x: Float[Tensor, "rows time hidden"], num_heads: int) -> Float[Tensor, "rows heads time dim"]:
    """The parts of each head."""
    rows, time, size = x.shape
    return x.view(rows, time, num_heads, size // num_heads).transpose(1, 2)


def weighted(
    query: Float[Tensor, "rows heads places dim"],
    key: Float[Tensor, "rows heads time dim"],
    value: Float[Tensor, "rows heads time dim"],
    mask: Float[Tensor, "rows 1 places time"] | None,
    noise: LayerNoise | None = None,
    rate: float = 0.0,
) -> Float[Tensor, "rows heads places dim"]:
    """Attention operator by operator, of whose weights noise drops a share `rate`; softmax in float32."""
    scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1).to(query.dtype)
    return (weights if noise is None else dropout(weights, noise.keys, ATTENTION_WEIGHTS, rate)) @ value


def states_at(
    states: Float[Tensor, "rows time hidden"], places: Int[Tensor, "rows places"]
) -> Float[Tensor, "rows places hidden"]:
    """The states at some places of each row."""
    first = states.shape[1] * torch.arange(len(states), device=places.device)[:, None]
    # As from a table: the one look-up whose gradient a CPU sums in a single pass.
    return F.embedding(places + first, states.flatten(0, 1))


class EncoderBlock(nn.Module):
    """One layer: `x = norm(x + attention x)`, then `x = norm(x + feed-forward x)`."""

    fused = False
    """Use the kernels where the input is bfloat16."""

    def __init__(self, hidden_size: int, num_heads: int, ffn_size: int, epsilon: float, drops: NoiseConfig) -> None:
        super().__init__()
        self.drops = drops
        self.attention = BidirectionalAttention(hidden_size, num_heads, drops.attention_dropout)
        self.attention_norm = LayerNorm(hidden_size, epsilon)
        self.ffn = FeedForward(hidden_size, ffn_size, "gelu", gated=False, bias=True)
        self.ffn_norm = LayerNorm(hidden_size, epsilon)

    def forward(
        self,
        x: Float[Tensor, "rows time hidden"],
        seen: Sight,
        noise: LayerNoise | None = None,
        only: Int[Tensor, "rows places"] | None = None,
    ) -> Float[Tensor, "rows out hidden"]:
        """[rows, time, hidden_size] -> the same shape; with `only` at these places of each row, in their order."""
        if only is None:
            mixed = self.attention.mixed(x, seen, noise)
        else:
            mixed = self.attention.mixed_at(x, only, seen, noise)
            x = states_at(x, only)
        x = self._added(x, mixed, self.attention.output, self.attention_norm, noise, ATTENTION_BRANCH)
        return self._added(x, self.ffn.inner(x), self.ffn.down, self.ffn_norm, noise, FFN_BRANCH)

    def _added(
        self, x: Tensor, inner: Tensor, last: Linear, norm: LayerNorm, noise: LayerNoise | None, places: tuple[int, int]
    ) -> Tensor:
        """`norm(x + last(inner))`, with what noise drops of the branch."""
        if not (self.fused and x.dtype == torch.bfloat16):
            y: Tensor = norm(x + residual_branch(last(inner), noise, places, self.drops))
            return y
        if noise is None:
            branch, bias = products.linear(inner, (last.weight,)), last.bias
        else:
            branch, bias = residual_branch(last(inner), noise, places, self.drops), None
        return postnorm.add_layer_norm(x, branch, bias, norm.weight, norm.bias, norm.epsilon)
