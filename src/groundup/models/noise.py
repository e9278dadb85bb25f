"""Dropout and stochastic depth by counters: what is dropped is a function of (seed, step, row, place), nothing else.

    (seed, step) + number of the row in the global batch --hash--> key of the row
    key, layer, place, position within the row --hash--> 32 bits, compared with the rate

No generator has a state, so a resumed run, another micro-batch, another number of ranks and a recomputed block drop the
same numbers. Invariant: without a key (validation, use) nothing is dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int32
from pydantic import Field
from torch import Tensor

from groundup.config import Config

ATTENTION_WEIGHTS, INPUT, HEAD = 1, 6, 7
"""Places at which numbers are dropped; each has random numbers of its own."""
ATTENTION_BRANCH, FFN_BRANCH = (2, 4), (3, 5)
"""Two places each: for dropout, and for whole branches."""


class NoiseConfig(Config):
    """What a transformer drops while it is trained; all zero by default, and nothing is dropped in use."""

    embedding_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the embedding's output that is set to zero (Srivastava et al. 2014)."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the attention weights that is set to zero; attention is computed without the fused kernel then."""
    residual_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what attention and feed-forward add to the residual stream that is set to zero."""
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    """How often a row skips a branch of the last layer; in proportion less below (Huang et al. 2016, 1603.09382)."""

    @property
    def drops(self) -> bool:
        """Whether anything is dropped at all."""
        return any((self.embedding_dropout, self.attention_dropout, self.residual_dropout, self.stochastic_depth))


class LayerNoise(NamedTuple):
    """What one layer needs in order to drop; the rates of depth are tensors, so that layers share a compiled graph."""

    keys: Int32[Tensor, " rows"]
    depth_rate: Float[Tensor, ""]
    columns: Int[Tensor, " time"] | None = None
    """Positions of the row that are at hand; None: all of them."""
    part: int = 0
    """Which of equal parts of the heads is at hand, where ranks share out the layer (`models.lane`)."""

    def heads(self, count: int) -> Int[Tensor, " heads"] | None:
        """Numbers of `count` heads (or keys of heads) at hand among all; None for the first ones."""
        return torch.arange(self.part * count, (self.part + 1) * count, device=self.keys.device) if self.part else None


def row_keys(seed: int, step: int, rows: Int[Tensor, " rows"]) -> Int32[Tensor, " rows"]:
    """Keys of the rows with these numbers in the global batch of a step."""
    # Hashed before the seed goes in: else row 3 of seed 1 would drop what row 0 of seed 2 drops. Two words each of
    # seed and step go in one after the other, so that none is lost.
    keys = _hash(rows.to(torch.int32) ^ _signed(0x9E3779B9))
    for word in (seed, seed >> 32, step, step >> 32):
        keys = _hash(keys ^ _signed(word))
    return keys


def layer_noise(
    keys: Int32[Tensor, " rows"] | None,
    layer: int,
    num_layers: int,
    stochastic_depth: float,
    columns: Int[Tensor, " time"] | None = None,
    part: int = 0,
) -> LayerNoise | None:
    """The noise of layer `layer` (from 0), for these positions of each row (None: all); None without keys."""
    if keys is None:
        return None
    rate = torch.full((), stochastic_depth * (layer + 1) / num_layers, device=keys.device)
    return LayerNoise(_hash(keys ^ _signed((layer + 1) * 0x9E3779B9)), rate, columns, part)


def dropout(
    x: Float[Tensor, "rows ..."],
    keys: Int32[Tensor, " rows"] | None,
    place: int,
    rate: float,
    columns: Int[Tensor, " time"] | None = None,
    within: tuple[int, int] | None = None,
) -> Float[Tensor, "rows ..."]:
    """`x` with a share `rate` of each row's numbers set to zero and the others made larger by as much.

    `columns`: `x` [rows, columns, ...] is a part of its rows, these numbers of their first dimension (positions, or
    heads); it drops what the whole rows would there. `within` (first, size): of a last dimension of `size` numbers `x`
    [rows, columns, numbers] has those from `first` on.
    """
    if keys is None or rate == 0:
        return x
    whole = within is None or within[1] == x.shape[-1]
    if columns is None and whole:
        mask = kept(keys, place, x.shape[1:], rate)
    else:
        inner = torch.arange(x.shape[2:].numel(), device=keys.device, dtype=torch.int32).view(x.shape[2:])
        size = inner.numel()
        if within is not None:
            inner, size = inner + within[0], within[1]
        at = torch.arange(x.shape[1], device=keys.device) if columns is None else columns
        first = at.to(torch.int32).view(-1, *[1] * inner.ndim) * size
        mask = kept_at(keys, place, first + inner, rate)
    return torch.where(mask, x * (1 / (1 - rate)), 0.0)


def residual_branch(
    x: Float[Tensor, "rows ..."], noise: LayerNoise | None, places: tuple[int, int], config: NoiseConfig
) -> Float[Tensor, "rows ..."]:
    """What a branch adds to the residual stream, after dropout and stochastic depth at two places."""
    if noise is None:
        return x
    x = dropout(x, noise.keys, places[0], config.residual_dropout, noise.columns)
    if config.stochastic_depth == 0:
        return x
    first = torch.zeros(1, device=noise.keys.device, dtype=torch.int32)
    uniform = (_bits(noise.keys, places[1], first).squeeze(1).float() + 2.0**31) * 2.0**-32
    scale = torch.where(uniform >= noise.depth_rate, 1 / (1 - noise.depth_rate), 0.0)
    return x * scale.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def kept(keys: Int32[Tensor, " rows"], place: int, shape: torch.Size, rate: float) -> Bool[Tensor, "rows ..."]:
    """True where a number of a row of this shape is kept."""
    return kept_at(keys, place, torch.arange(shape.numel(), device=keys.device, dtype=torch.int32).view(shape), rate)


def kept_at(
    keys: Int32[Tensor, " rows"], place: int, numbers: Int32[Tensor, "*shape"], rate: float
) -> Bool[Tensor, "rows ..."]:
    """As `kept`, of some of a row's numbers, told by where they lie in the row when it is laid flat."""
    threshold = round(rate * 2**32) - 2**31
    return (_bits(keys, place, numbers.flatten()) >= threshold).view(len(keys), *numbers.shape)


def _bits(keys: Int32[Tensor, " rows"], place: int, counters: Int32[Tensor, " count"]) -> Int32[Tensor, "rows count"]:
    return _hash(_hash(keys ^ _signed(place * 0x85EBCA6B))[:, None] ^ _hash(counters))


def _hash(x: Int32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """A bijection of 32 bits in which each bit of the answer depends on each of `x` (Wellons' lowbias32)."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(word: int) -> int:
    """The lowest 32 bits of a number, as int32 has them."""
    return ((word + 2**31) & 0xFFFFFFFF) - 2**31
