"""Layers of the BERT layout: matrices with a bias, mean-and-variance norms, attention in both directions, GELU.

    x -> attention -> + x -> norm -> up, GELU, down -> + -> norm          (post-norm, Vaswani et al. 2017)

Invariant: a layer answers in the dtype of its input and holds no buffer; a position sees its own segment only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class BiasedLinear(nn.Module):
    """`y = x W^T + b`; both are cast to the dtype of `x`, so masters may stay float32."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_size, in_size))
        self.bias = nn.Parameter(torch.empty(out_size))

    def forward(self, x: Float[Tensor, "*batch in_size"]) -> Float[Tensor, "*batch out_size"]:
        """[..., in_size] -> [..., out_size] in the dtype of `x`."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class LayerNorm(nn.Module):
    """Norm of mean and variance with gain and bias (Ba et al. 2016, arXiv 1607.06450), computed in float32."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the answer has the dtype of `x`."""
        gain, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), (x.shape[-1],), gain, bias, self.epsilon).to(x.dtype)


class BidirectionalAttention(nn.Module):
    """Multi-head attention of every position to all positions of its segment."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = BiasedLinear(hidden_size, hidden_size)
        self.key = BiasedLinear(hidden_size, hidden_size)
        self.value = BiasedLinear(hidden_size, hidden_size)
        self.output = BiasedLinear(hidden_size, hidden_size)

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


class FeedForward(nn.Module):
    """`down(gelu(up x))` with the exact GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.up = BiasedLinear(hidden_size, ffn_size)
        self.down = BiasedLinear(ffn_size, hidden_size)

    def forward(self, x: Float[Tensor, "rows time hidden"]) -> Float[Tensor, "rows time hidden"]:
        """[rows, time, hidden_size] -> the same shape."""
        y: Tensor = self.down(F.gelu(self.up(x)))
        return y


class EncoderBlock(nn.Module):
    """One layer: `x = norm(x + attention x)`, then `x = norm(x + feed-forward x)`."""

    def __init__(self, hidden_size: int, num_heads: int, ffn_size: int, epsilon: float) -> None:
        super().__init__()
        self.attention = BidirectionalAttention(hidden_size, num_heads)
        self.attention_norm = LayerNorm(hidden_size, epsilon)
        self.ffn = FeedForward(hidden_size, ffn_size)
        self.ffn_norm = LayerNorm(hidden_size, epsilon)

    def forward(
        self, x: Float[Tensor, "rows time hidden"], segments: Int[Tensor, "rows time"] | None
    ) -> Float[Tensor, "rows time hidden"]:
        """[rows, time, hidden_size] -> the same shape."""
        x = self.attention_norm(x + self.attention(x, segments))
        y: Tensor = self.ffn_norm(x + self.ffn(x))
        return y
