"""Layers of the BERT layout: attention in both directions, and the block.

    x -> attention -> + x -> norm -> up, GELU, down -> + -> norm          (post-norm, Vaswani et al. 2017)

Invariant: a layer answers in the dtype of its input and holds no buffer; a position sees its own segment only.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.models.layers import FeedForward, LayerNorm, Linear


class BidirectionalAttention(nn.Module):
    """Multi-head attention of every position to all positions of its segment."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(hidden_size, hidden_size, bias=True)
        self.key = Linear(hidden_size, hidden_size, bias=True)
        self.value = Linear(hidden_size, hidden_size, bias=True)
        self.output = Linear(hidden_size, hidden_size, bias=True)

    def forward(
        self, x: Float[Tensor, "rows time hidden"], segments: Int[Tensor, "rows time"] | None
    ) -> Float[Tensor, "rows time hidden"]:
        """Each position mixed with all of its segment; `segments` None: all are one."""
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mask = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return merged


class EncoderBlock(nn.Module):
    """One layer: `x = norm(x + attention x)`, then `x = norm(x + feed-forward x)`."""

    def __init__(self, hidden_size: int, num_heads: int, ffn_size: int, epsilon: float) -> None:
        super().__init__()
        self.attention = BidirectionalAttention(hidden_size, num_heads)
        self.attention_norm = LayerNorm(hidden_size, epsilon)
        self.ffn = FeedForward(hidden_size, ffn_size, "gelu", gated=False, bias=True)
        self.ffn_norm = LayerNorm(hidden_size, epsilon)

    def forward(
        self, x: Float[Tensor, "rows time hidden"], segments: Int[Tensor, "rows time"] | None
    ) -> Float[Tensor, "rows time hidden"]:
        """[rows, time, hidden_size] -> the same shape."""
        x = self.attention_norm(x + self.attention(x, segments))
        y: Tensor = self.ffn_norm(x + self.ffn(x))
        return y
