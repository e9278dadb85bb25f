"""What can be put on a frozen linear layer so that little is trained: LoRA and DoRA; and its product in few bits.

    x --frozen W (float32, bfloat16 or quantised)-------------------> + --> [ * magnitude / |row of W + s B A| ] --> y
    x --dropout--> A [rank, in] --> B [out, rank] --> * s ------------^          with DoRA only

LoRA: Hu et al. 2021, arXiv 2106.09685, s = alpha / rank (rank-stabilised: alpha / sqrt(rank), Kalajdzievski 2023, arXiv
2312.03732). DoRA: Liu et al. 2024, arXiv 2402.09353, the norm taken as a constant in the backward (its section 4.3).

Adapters of layers that read the same input are one adapter of the joined layer: the A below each other, the B along a
diagonal; so layers that the kernels join stay joined.

Where ranks share the layer (`models.lane`), A and B are cut where W is: rows of B with the rows of W, columns of A with
its columns; the other of the two is whole on every rank. Invariant: W has no gradient, and is made anew in the backward
rather than kept in the wanted dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.config import Config
from groundup.models.context import RowContext
from groundup.models.initial import fill, generator
from groundup.models.lane import Lane, local, local_rows
from groundup.models.noise import dropout

MARK = ".adapter."
"""In the names of parameters that an adapter has."""
ADAPTER_INPUT = 8
"""Place of dropout, beside those of `models.noise`."""


class FullTuning(Config):
    """Every weight learns."""

    kind: Literal["full"] = "full"


class LowRankConfig(Config):
    """What LoRA and DoRA have in common: all weights stay as they are, and small matrices beside them learn."""

    kind: str
    """Which; each has its own word."""
    rank: int = Field(default=16, ge=1)
    """Rows of A, columns of B: how much an adapter can say."""
    alpha: float = Field(default=32.0, gt=0)
    """What the adapter counts: its product is multiplied by alpha / rank."""
    rank_stabilised: bool = False
    """Multiply by alpha / sqrt(rank) instead, which large ranks need."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's input that is set to zero in training."""
    targets: tuple[str, ...] = Field(default=("linear",), min_length=1)
    """Layers that get an adapter: `attention`, `ffn`, `linear` (all of the blocks), or names such as `query`, `*.down`.
    """
    init: Literal["uniform", "gaussian"] = "uniform"
    """Start of A: as torch starts a linear layer, or normal with a deviation of 1 / rank; B starts at zero."""
    base: Literal["unchanged", "int8", "nf4"] = "unchanged"
    """Format of the frozen matrices: as they are (in the phase's precision), or in 8 or 4 bits; the exported model is
    made from the same."""
    also: tuple[str, ...] = ()
    """Names of parameters that learn whole beside the adapters, such as `embedding.weight`, which new tokens need."""

    @property
    def scale(self) -> float:
        """What the product of both matrices is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoRAConfig(LowRankConfig):
    """Low-rank adapters (Hu et al. 2021); with `base: nf4` as in QLoRA."""

    kind: Literal["lora"] = "lora"


class DoRAConfig(LowRankConfig):
    """Low-rank adapters of the direction of each row, and its length apart (Liu et al. 2024)."""

    kind: Literal["dora"] = "dora"


TuneConfig = Annotated[FullTuning | LoRAConfig | DoRAConfig, Field(discriminator="kind")]
"""Ways to tune a model, told apart by `kind`."""


class Adapter(nn.Module):
    """The matrices of one layer."""

    keys: Int32[Tensor, " rows"] | None = None
    """Of the rows at hand, for dropout; without, nothing is dropped."""
    columns: Int[Tensor, " time"] | None = None
    """Their positions that are at hand; None: all."""
    lane: Lane | None = None
    """Ranks of which each has some of the inputs."""
    rows: tuple[int, int] | None = None
    """From which output of the layer to which is used here; None: all."""

    def __init__(self, in_size: int, out_size: int, config: LowRankConfig, number: int) -> None:
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.down = nn.Parameter(torch.empty(config.rank, in_size))
        self.up = nn.Parameter(torch.empty(out_size, config.rank))
        self.magnitude = nn.Parameter(torch.empty(out_size)) if isinstance(config, DoRAConfig) else None
        self.scale, self.dropout, self.init = config.scale, config.dropout, config.init
        self.number = number
        """Tells its random numbers from those of the others."""

    def begin(self, name: str, seed: int, base: Callable[[], Float[Tensor, "out in"]]) -> None:
        """Start so that the layer gives what it gave: B zero, magnitudes the lengths of the rows of `base`.

        `base` makes the whole matrix, and is called only where that is asked of it.
        """
        limit = 1 / math.sqrt(self.down.shape[1])
        start, random = torch.empty(self.down.shape, device="cpu"), generator(seed, f"{name}.down")
        if self.init == "uniform":
            start.uniform_(-limit, limit, generator=random)
        else:
            start.normal_(0.0, 1 / len(self.down), generator=random)
        fill(self.down, start)
        fill(self.up, torch.zeros(self.up.shape, device="cpu"))
        if self.magnitude is not None:
            fill(self.magnitude, torch.linalg.vector_norm(base().detach().float(), dim=1))

    def own_up(self) -> Float[Tensor, "out rank"]:
        """B, of several ranks the rows that this one uses."""
        return local_rows(self.up, self.rows)

    def reduced(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch rank"]:
        """`x` by A, after dropout; a part of the sum where ranks share out the inputs."""
        if self.dropout and self.keys is not None:
            first = 0 if self.lane is None else self.lane.part * x.shape[-1]
            within = (first, self.in_size)
            x = dropout(x, self.keys + self.number, ADAPTER_INPUT, self.dropout, self.columns, within)
        return F.linear(x, local(self.down).to(x.dtype))

    def row_factors(self, base: Float[Tensor, "out in"]) -> Float[Tensor, " out"]:
        """What DoRA multiplies each row of `base + s B A` by; gradients reach the magnitudes only."""
        assert self.magnitude is not None, "asked for DoRA's layers only"
        with torch.no_grad():
            whole = torch.addmm(base.float(), self.own_up().float(), local(self.down).float(), alpha=self.scale)
            if self.lane is None:
                length = torch.linalg.vector_norm(whole, dim=1)
            else:
                length = self.lane.total(whole.square().sum(1)).sqrt()
        factors: Tensor = local_rows(self.magnitude, self.rows).float() / length
        return factors

    @torch.no_grad()
    def merged(self, base: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """The float32 matrix that does what `base` does with this adapter on it."""
        whole = torch.addmm(base.float(), self.up, self.down, alpha=self.scale)
        return whole if self.magnitude is None else whole * self.row_factors(base)[:, None]


def tell_rows(model: nn.Module, context: RowContext) -> None:
    """Tell every adapter in `model` of the rows at hand; without their keys nothing is dropped."""
    for module in model.modules():
        if isinstance(module, Adapter):
            module.keys, module.columns = context.keys, context.part.columns if context.part else None


class Adapted(Protocol):
    """What is asked of a linear layer."""

    out_size: int
    adapter: Adapter | None
    lane: Lane | None

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "out in"]:
        """Its weights, whatever they are kept in; of several ranks what this one has."""

    def own_bias(self) -> Float[Tensor, " out"] | None:
        """Its bias, of several ranks what this one has; None without."""


def adapted_linear(x: Float[Tensor, "*batch in"], layers: Sequence[Adapted]) -> Float[Tensor, "*batch joined"]:
    """The answers of layers to one input behind each other, with their adapters; biases are added at the end.

    A layer of which each rank has some inputs comes alone, and its answer is this rank's part of time.
    """
    y = frozen_linear(x, lambda dtype: _below([layer.matrix(dtype) for layer in layers]))
    adapters = [layer.adapter for layer in layers]
    if any(adapter is not None for adapter in adapters):
        ups = [_scaled_up(x, layer) for layer in layers]
        up = ups[0] if len(ups) == 1 else torch.block_diag(*ups)  # type: ignore[no-untyped-call]
        y = torch.addmm(y.flatten(0, -2), _reduced(x, adapters).flatten(0, -2), up.to(x.dtype).t()).view(y.shape)
    if layers[0].lane is not None:
        y = layers[0].lane.scatter(y)
    if any(adapter is not None and adapter.magnitude is not None for adapter in adapters):
        factors = torch.cat([_factors(x, layer) for layer in layers])
        y = (y.float() * factors).to(x.dtype)
    own = [layer.own_bias() for layer in layers]
    biases = [bias for bias in own if bias is not None]
    return y + _below(biases).to(x.dtype) if biases else y


def _below(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _scaled_up(x: Tensor, layer: Adapted) -> Float[Tensor, "out rank"]:
    """s B, or of a layer without adapter rows of nothing."""
    if layer.adapter is None:
        return x.new_empty((layer.out_size, 0), dtype=torch.float32)
    return layer.adapter.own_up() * layer.adapter.scale


def _reduced(x: Tensor, adapters: Sequence[Adapter | None]) -> Tensor:
    """`x` by the A of all adapters; one product where nothing is dropped."""
    found = [adapter for adapter in adapters if adapter is not None]
    if any(adapter.dropout and adapter.keys is not None for adapter in found):
        return torch.cat([adapter.reduced(x) for adapter in found], -1)
    return F.linear(x, _below([local(adapter.down) for adapter in found]).to(x.dtype))


def _factors(x: Tensor, layer: Adapted) -> Float[Tensor, " out"]:
    if layer.adapter is None or layer.adapter.magnitude is None:
        return x.new_ones(layer.out_size, dtype=torch.float32)
    return layer.adapter.row_factors(layer.matrix(torch.float32))


class _Frozen(torch.autograd.Function):
    """`x W^T` where W has no gradient and is made again for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Callable[[torch.dtype], Tensor]) -> Tensor:
        ctx.matrix = matrix
        return F.linear(x, matrix(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.matrix(grad.dtype), None


def frozen_linear(
    x: Float[Tensor, "*batch in"], matrix: Callable[[torch.dtype], Tensor]
) -> Float[Tensor, "*batch out"]:
    """The product of `x` with a matrix that has no gradient."""
    if torch.compiler.is_compiling():
        return F.linear(x, matrix(x.dtype))
    y: Tensor = _Frozen.apply(x, matrix)  # type: ignore[no-untyped-call]
    return y
