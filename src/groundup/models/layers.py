"""The layers without attention: matrices with float32 masters, norms, feed-forward.

    float32 weight --cast to the dtype of the input--> matrix product  (Linear, Embedding)
    input --float32--> normalised --back to the input's dtype-->       (RMSNorm, LayerNorm)

Invariant: a layer answers in the dtype of its input, and holds no buffer, so that a model materialised from the meta
device needs its parameters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.kernels import ops, postnorm, products
from groundup.models.activations import ACTIVATIONS, Activation
from groundup.models.adapters import Adapter, adapted_linear
from groundup.models.lane import Lane, local, local_rows
from groundup.models.quantised import Format, QuantisedMatrix
from groundup.models.vocabulary import look_up


class Linear(nn.Module):
    """`y = x W^T`, with `bias` also `+ b`; they are cast to the dtype of `x`, so masters may stay float32.

    A frozen one may have an adapter, and its matrix in few bits in place of `weight`.
    """

    fused = False
    """Sum the gradient of the matrix by the kernel where the input is bfloat16."""
    lane: Lane | None = None
    """Ranks of which each has some columns, so that their products are added up."""
    rows: tuple[int, int] | None = None
    """From which row of the matrix to which it is used; None: all."""

    def __init__(self, in_size: int, out_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.adapter: Adapter | None = None
        self.quantised: QuantisedMatrix | None = None
        self.in_size, self.out_size = in_size, out_size
        self.weight = nn.Parameter(torch.empty(out_size, in_size))
        self.bias = nn.Parameter(torch.empty(out_size)) if bias else None

    def forward(self, x: Float[Tensor, "*batch in_size"]) -> Float[Tensor, "*batch out_size"]:
        """[..., in_size] -> [..., out_size] in the dtype of `x`."""
        if self.adapter is not None or self.quantised is not None:
            return adapted_linear(x, (self,))
        if self.fused and x.dtype == torch.bfloat16:
            return joined_linear(x, (self,))
        weight, bias = self.matrix(x.dtype), self.own_bias()
        bias = None if bias is None else bias.to(x.dtype)
        if self.lane is None:
            return F.linear(x, weight, bias)
        y = self.lane.scatter(F.linear(x, weight))
        return y if bias is None else y + bias

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "out_size in_size"]:
        """The weights, whatever they are kept in; of several ranks what this one uses."""
        return local_rows(self.weight, self.rows).to(dtype) if self.quantised is None else self.quantised.matrix(dtype)

    def own_bias(self) -> Float[Tensor, " out_size"] | None:
        """The bias; of several ranks what this one uses."""
        return None if self.bias is None else local_rows(self.bias, self.rows)

    def quantise(self, kind: Format) -> None:
        """Keep the weights in few bits from now on; they can no longer learn."""
        self.quantised = QuantisedMatrix(kind, self.weight)
        del self.weight


def joined_linear(x: Float[Tensor, "*batch in_size"], layers: Sequence[Linear]) -> Float[Tensor, "*batch joined"]:
    """The answers of several layers to one bfloat16 input, behind each other, by one product of `kernels.products`.

    All have a bias or none has.
    """
    if any(layer.adapter is not None or layer.quantised is not None for layer in layers):
        return adapted_linear(x, layers)
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    return products.linear(x, tuple(layer.weight for layer in layers), torch.cat(biases) if biases else None)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019, arXiv 1910.07467), computed in float32."""

    fused = False
    """Use the kernel where the input is bfloat16."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the answer has the dtype of `x`."""
        if self.fused and x.dtype == torch.bfloat16:
            return ops.rms_norm(x, self.weight, self.epsilon)
        return (unit_rms(x.float(), self.epsilon) * local(self.weight).float()).to(x.dtype)


def unit_rms(x: Float[Tensor, "*batch size"], epsilon: float) -> Float[Tensor, "*batch size"]:
    """`x / sqrt(mean(x^2) + epsilon)` over the last dimension, in the dtype of `x`."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


class LayerNorm(nn.Module):
    """Norm to mean 0 and variance 1 with gain and shift (Ba et al. 2016, arXiv 1607.06450), computed in float32."""

    fused = False
    """There is no kernel for it."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Normalise the last dimension; the answer has the dtype of `x`."""
        gain, shift = local(self.weight).float(), local(self.bias).float()
        return F.layer_norm(x.float(), gain.shape, gain, shift, self.epsilon).to(x.dtype)


def norm_of(kind: Literal["rms", "layer"], size: int, epsilon: float) -> RMSNorm | LayerNorm:
    """The norm of this kind."""
    return RMSNorm(size, epsilon) if kind == "rms" else LayerNorm(size, epsilon)


class Embedding(nn.Module):
    """Token id -> row of a table, in the wanted dtype; with `norm` each row is brought to unit root mean square.

    The norm acts on single rows, so it folds into the table (`folded`). `scale` multiplies what comes out.
    """

    fused = False
    """Use the kernel for the norm where bfloat16 is wanted."""
    lane: Lane | None = None
    """Ranks of which each has some rows."""

    def __init__(self, vocab_size: int, size: int, *, norm: bool, epsilon: float, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, size))
        self.norm, self.epsilon, self.scale = norm, epsilon, scale

    def forward(self, tokens: Int[Tensor, "*batch"], dtype: torch.dtype) -> Float[Tensor, "*batch size"]:
        """Ids [...] -> vectors [..., size]."""
        vectors = F.embedding(tokens, self.weight) if self.lane is None else look_up(tokens, self.weight, self.lane)
        if self.norm and self.fused and dtype == torch.bfloat16:
            return ops.rms_norm(vectors.to(dtype), None, self.epsilon)
        vectors = (unit_rms(vectors.float(), self.epsilon) if self.norm else vectors).to(dtype)
        return vectors if self.scale == 1.0 else vectors * self.scale


class SwiGLU(nn.Module):
    """Feed-forward `down(silu(gate x) * up x)` (Shazeer 2020, arXiv 2002.05202)."""

    fused = False
    """Use the kernel where the input is bfloat16."""
    lane: Lane | None = None
    """Ranks of which each has some of the inner columns."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, ffn_size)
        self.up = Linear(hidden_size, ffn_size)
        self.down = Linear(ffn_size, hidden_size)

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """[..., hidden_size] -> [..., hidden_size]."""
        x = x if self.lane is None else self.lane.gather(x)
        if self.fused and x.dtype == torch.bfloat16:
            inner = ops.swiglu(joined_linear(x, (self.gate, self.up)))
        else:
            inner = F.silu(self.gate(x)) * self.up(x)
        y: Tensor = self.down(inner)
        return y


class FeedForward(nn.Module):
    """Feed-forward by any activation: `down(f(gate x) * up x)` when gated, else `down(f(up x))`; biases if asked."""

    fused = False
    """Use the kernel for GELU where the input is bfloat16; for layers with biases and without a gate."""
    lane: Lane | None = None
    """Ranks of which each has some of the inner columns."""

    def __init__(self, hidden_size: int, ffn_size: int, activation: Activation, *, gated: bool, bias: bool) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, ffn_size, bias=bias) if gated else None
        self.up = Linear(hidden_size, ffn_size, bias=bias)
        self.down = Linear(ffn_size, hidden_size, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """[..., hidden_size] -> [..., hidden_size]."""
        y: Tensor = self.down(self.inner(x if self.lane is None else self.lane.gather(x)))
        return y

    def inner(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch inner"]:
        """What `down` reads: [..., hidden_size] -> [..., ffn_size]."""
        if self.fused and self.up.bias is not None and x.dtype == torch.bfloat16:
            return postnorm.gelu(products.linear(x, (self.up.weight,)), self.up.bias)
        up = self.up(x)
        return self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
