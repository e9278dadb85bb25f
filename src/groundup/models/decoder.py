"""The decoder: token ids -> losses or logits; with what it knows of itself (roles of its parameters, units to compile).

    tokens -> embedding (+ positions) -> [ x + attention(norm x) ; x + ffn(norm x) ] * num_layers -> norm -> head
    norms after instead:                 [ norm(x + attention x) ; norm(x + ffn x) ] * num_layers         -> head

Invariant: parameters are float32 masters in shapes that fold into a Hugging Face layout (`groundup.models.layouts`)
without change of the function; there are no buffers, and nothing depends on the world size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.kernels import ops
from groundup.models.adapters import MARK
from groundup.models.attention import Attention, AttentionKind
from groundup.models.cache import KeyValueCache
from groundup.models.context import RowContext
from groundup.models.decoder_config import DecoderConfig
from groundup.models.heads import ChunkLoss, LanguageModelHead
from groundup.models.lane import local
from groundup.models.layers import Embedding, FeedForward, Linear, RMSNorm, SwiGLU, norm_of
from groundup.models.network import CausalNetwork, Operation, Role
from groundup.models.noise import (
    ATTENTION_BRANCH,
    FFN_BRANCH,
    INPUT,
    LayerNoise,
    dropout,
    layer_noise,
    residual_branch,
)
from groundup.models.rotary import Rotation, scaled_rotation, sinusoids
from groundup.models.row_part import RowPart
from groundup.models.scaling import Growth
from groundup.models.tensor_plan import Layout, tensor_plan


class Block(nn.Module):
    """One layer: `x + attention(norm x)`, then `x + ffn(norm x)`; or each norm behind its sum."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        size, epsilon = config.hidden_size, config.norm_epsilon
        self.norms_after = config.norm_placement == "after"
        self.attention_norm = norm_of(config.norm, size, epsilon)
        self.attention = Attention(
            size,
            config.num_heads,
            config.num_kv_heads,
            config.head_size,
            qk_norm=config.qk_norm,
            epsilon=epsilon,
            norm=config.norm,
            bias=config.attention_bias,
            window=config.window(layer),
        )
        self.attention.dropout = config.attention_dropout
        self.ffn_norm = norm_of(config.norm, size, epsilon)
        self.ffn = feed_forward(config)

    def forward(
        self,
        x: Float[Tensor, "rows own hidden"],
        by: Rotation | None,
        segments: Int[Tensor, "rows time"] | None,
        noise: LayerNoise | None = None,
        part: RowPart | None = None,
    ) -> Float[Tensor, "rows own hidden"]:
        """[rows, time, hidden_size] -> the same shape; where ranks share the block, each has its own part of time.

        `part`: which positions these are, where rows are split.
        """
        mixed = self.attention(self._before(x), by, segments, noise, part)
        if isinstance(self.ffn_norm, RMSNorm) and self.ffn_norm.fused and x.dtype == torch.bfloat16:
            mixed = residual_branch(mixed, noise, ATTENTION_BRANCH, self.config)
            x, normed = ops.add_rms_norm(x, mixed, self.ffn_norm.weight, self.ffn_norm.epsilon)
            y: Tensor = x + residual_branch(self.ffn(normed), noise, FFN_BRANCH, self.config)
            return y
        return self._behind_attention(x, mixed, noise)

    def cached(
        self, x: Float[Tensor, "rows time hidden"], by: Rotation | None, keys: Tensor, values: Tensor, length: int
    ) -> Float[Tensor, "rows time hidden"]:
        """As `forward`, over a cache filled up to `length`; never compiled, so any shape is welcome."""
        return self._behind_attention(x, self.attention.cached(self._before(x), by, keys, values, length))

    def _before(self, x: Tensor) -> Tensor:
        normed: Tensor = x if self.norms_after else self.attention_norm(x)
        return normed

    def _behind_attention(self, x: Tensor, mixed: Tensor, noise: LayerNoise | None = None) -> Tensor:
        x = x + residual_branch(mixed, noise, ATTENTION_BRANCH, self.config)
        if self.norms_after:
            x = self.attention_norm(x)
            y: Tensor = self.ffn_norm(x + residual_branch(self.ffn(x), noise, FFN_BRANCH, self.config))
            return y
        y = x + residual_branch(self.ffn(self.ffn_norm(x)), noise, FFN_BRANCH, self.config)
        return y


def feed_forward(config: DecoderConfig) -> SwiGLU | FeedForward:
    """The feed-forward part that the switches ask for; the one that has kernels where it will do."""
    if config.gated and config.activation == "silu" and not config.ffn_bias:
        return SwiGLU(config.hidden_size, config.ffn_size)
    return FeedForward(config.hidden_size, config.ffn_size, config.activation, gated=config.gated, bias=config.ffn_bias)


def ends_branch(name: str) -> bool:
    """Whether a parameter makes what is added to the residual stream."""
    return ".attention.output." in name or ".ffn.down." in name


class LearnedPositions(nn.Module):
    """Position -> row of a table."""

    def __init__(self, context_length: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context_length, size))

    def forward(self, positions: Int[Tensor, "batch time"], dtype: torch.dtype) -> Float[Tensor, "batch time size"]:
        """Positions -> vectors."""
        return F.embedding(positions, local(self.weight)).to(dtype)


class Decoder(CausalNetwork, of=DecoderConfig):
    """A causal language model. Build it on any device ("meta" included), then `initialise` or load a state."""

    config: DecoderConfig
    embedding: Embedding
    positions_name = "positions.weight"

    def __init__(self, config: DecoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.embedding = Embedding(
            vocab_size,
            config.hidden_size,
            norm=config.embedding_norm,
            epsilon=config.norm_epsilon,
            scale=math.sqrt(config.hidden_size) if config.scale_embedding else 1.0,
        )
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.context_length, config.hidden_size) if learned else None
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        before = config.norm_placement == "before"
        self.norm = norm_of(config.norm, config.hidden_size, config.norm_epsilon) if before else nn.Identity()
        self.head = LanguageModelHead(config.hidden_size, vocab_size, tied=config.tied)

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """What the head reads, in the compute dtype."""
        if positions is None:
            positions = self._numbers(tokens.shape[1], context, tokens.device)[None]
        x = self.entered(tokens, positions, context)
        y: Tensor = self.norm(self.through(x, range(self.config.num_layers), segments, positions, context))
        return y if self.lane is None else self.lane.gather(y)

    def entered(
        self, tokens: Int[Tensor, "rows time"], positions: Int[Tensor, "batch time"], context: RowContext | None
    ) -> Float[Tensor, "rows time hidden"]:
        """What the first block reads; where ranks share the layers, the own part of time."""
        part = context.part if context else None
        x = self._placed(tokens, positions, tokens.shape[1] if part is None else part.length)
        columns = part.columns if part is not None else None
        x = dropout(x, self._keys(context), INPUT, self.config.embedding_dropout, columns)
        return x if self.lane is None else self.lane.cut(x)

    def through(
        self,
        x: Float[Tensor, "rows time hidden"],
        blocks: range,
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "batch time"],
        context: RowContext | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """What some consecutive blocks make of what the first of them reads."""
        part, time = context.part if context else None, positions.shape[1]
        config, by, keys = (
            self.config,
            self.angles(positions, time if part is None else part.length),
            self._keys(context),
        )
        columns, share = part.columns if part is not None else None, 0
        if self.lane is not None:
            share, own = self.lane.part, x.shape[1]
            # Parts are equally long, with places behind the end of the row that nothing is read from.
            numbers = F.pad(self._numbers(time, context, x.device), (0, own * self.lane.parts - time))
            columns = numbers[share * own : (share + 1) * own]
        for index in blocks:
            noise = layer_noise(keys, index, config.num_layers, config.stochastic_depth, columns, share)
            x = self.layers[index](x, by, segments, noise, part)
        return x

    @staticmethod
    def _numbers(time: int, context: RowContext | None, device: torch.device) -> Int[Tensor, " time"]:
        """Which positions of its rows a batch has."""
        part = context.part if context else None
        return torch.arange(time, device=device) if part is None else part.columns

    def _keys(self, context: RowContext | None) -> Tensor | None:
        return context.keys if context and self.config.drops else None

    def _placed(
        self, tokens: Int[Tensor, "rows time"], positions: Int[Tensor, "batch time"], length: int
    ) -> Float[Tensor, "rows time hidden"]:
        """What goes into the first block; `length`: tokens of the text so far."""
        config = self.config
        if self.positions is not None and length > config.context_length:
            raise ValueError(
                f"{length} tokens: the model has learned {config.context_length} positions (context_length); give fewer"
            )
        x: Tensor = self.embedding(tokens, self.compute_dtype)
        if config.positions == "rope":
            return x
        added: Tensor = (
            self.positions(positions, self.compute_dtype)
            if self.positions is not None
            else sinusoids(positions, config.hidden_size).to(self.compute_dtype)
        )
        return x + added

    def angles(self, positions: Int[Tensor, "batch time"], length: int) -> Rotation | None:
        """What every block turns queries and keys by, where positions are rotary."""
        return self.rotation(positions, length) if self.config.positions == "rope" else None

    def rotation(self, positions: Int[Tensor, "batch time"], length: int) -> Rotation:
        """Rotary angles of `positions` in a text of `length` tokens so far."""
        config = self.config
        return scaled_rotation(
            positions,
            config.head_size,
            config.rope_theta,
            config.rope_scaling,
            context_length=config.context_length,
            length=length,
        )

    def new_cache(self, rows: int, max_time: int) -> KeyValueCache:
        """Room for `rows` sequences of at most `max_time` tokens, on the model's device and in its compute dtype."""
        config = self.config
        shape = (rows, config.num_kv_heads, max_time, config.head_size)
        device = self.embedding.weight.device

        def allocate() -> list[Tensor]:
            return [torch.zeros(shape, dtype=self.compute_dtype, device=device) for _ in range(config.num_layers)]

        return KeyValueCache(allocate(), allocate())

    def prefill(self, tokens: Int[Tensor, "rows time"], cache: KeyValueCache) -> Float[Tensor, "rows vocab"]:
        """Append equally long `tokens` to the cache, from `cache.length`; float32 logits of the last position.

        Raises ValueError when the cache is too short.
        """
        states = self._append(tokens, cache)
        return self.head.logits(self.norm(states[:, -1]), self.embedding.weight)

    def extend(self, tokens: Int[Tensor, "rows time"], cache: KeyValueCache) -> Float[Tensor, "rows time hidden"]:
        """As `prefill`; what the head reads at each of `tokens`."""
        states: Tensor = self.norm(self._append(tokens, cache))
        return states

    def _append(self, tokens: Int[Tensor, "rows time"], cache: KeyValueCache) -> Float[Tensor, "rows time hidden"]:
        """Append `tokens` to the cache; the last block's output, before the norm."""
        start, time = cache.length, tokens.shape[1]
        limit = cache.keys[0].shape[2]
        if start + time > limit:
            raise ValueError(
                f"{start + time} tokens do not fit a cache of {limit}; make the cache longer or the prompt shorter"
            )
        positions = torch.arange(start, start + time, device=tokens.device)[None]
        x, by = self._placed(tokens, positions, start + time), self.angles(positions, start + time)
        for index, block in enumerate(self.blocks()):
            x = block.cached(x, by, cache.keys[index], cache.values[index], start)
        cache.length = start + time
        return x

    def set_attention(self, kind: AttentionKind) -> None:
        """Choose the way attention is computed: `auto` (by device and length), `blocks` or `sdpa`."""
        for block in self.blocks():
            block.attention.kind = kind

    def set_kernels(self, on: bool) -> None:
        """Compute with the kernels of `groundup.kernels` wherever numbers are bfloat16; ask `ops.usable` first.

        A model with a switch that they do not know (`DecoderConfig.kernels_obstacle`) stays with PyTorch.
        """
        on = on and self.config.kernels_obstacle() is None
        for module in self.modules():
            if isinstance(module, Embedding | RMSNorm | Linear | Attention | SwiGLU | ChunkLoss):
                module.fused = on

    def blocks(self) -> list[Block]:
        """The repeated units: sharded, compiled and recomputed one by one."""
        return [block for block in self.layers if isinstance(block, Block)]

    def compile_units(self) -> list[nn.Module]:
        """What is worth compiling; all blocks share one compiled graph."""
        # An empty norm (norms behind instead) has nothing to compile, which torch refuses.
        ends = [self.norm, *(module for module in self.modules() if isinstance(module, ChunkLoss))]
        return [*self.blocks(), *(end for end in ends if end is not None and not isinstance(end, nn.Identity))]

    def tensor_plan(self) -> dict[str, Layout]:
        """Heads and inner columns of every block, and the vocabulary."""
        return tensor_plan(self)

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        return "embedding" if name == self.positions_name else super().role(name)

    def growth(self, name: str) -> Growth:
        """How much larger than the base model this one is where it concerns this parameter (`models.scaling`)."""
        config, base = self.config, self.config.scaling
        if base is None or MARK in name:
            return Growth()
        wider = config.hidden_size / base.base_hidden_size if self.role(name) in ("matrix", "head") else 1.0
        return Growth(wider, config.num_layers / base.base_num_layers if ends_branch(name) else 1.0)

    def start(self, name: str, shape: torch.Size, seed: int) -> Tensor:
        """The starting values of a parameter, as the config says."""
        role, config = self.role(name), self.config
        if role == "vector":
            return torch.zeros(shape, device="cpu") if name.endswith(".bias") else torch.ones(shape, device="cpu")
        if config.zero_init and ends_branch(name):
            return torch.zeros(shape, device="cpu")
        width, depth = self.growth(name)
        given = None if config.init_std is None else config.init_std / math.sqrt(width)
        std = {
            "embedding": config.embedding_init_std,
            "head": config.head_init_std / width,
            "matrix": (given or 1 / math.sqrt(shape[1])) / depth,
        }
        return self.normal(name, shape, seed, std[role])

    def operations(self) -> list[Operation]:
        """Scores of attention, those of one window in one row."""
        config, found = self.config, super().operations()
        width = config.num_heads * config.head_size
        for window in dict.fromkeys(config.window(layer) for layer in range(config.num_layers)):
            layers = [layer for layer in range(config.num_layers) if config.window(layer) == window]
            flops = round(sum(12 * width * config.keys_seen(layer) for layer in layers))
            seen = f"{config.keys_seen(layers[0]):,.0f} keys on average" + (f", window {window}" if window else "")
            found.append(Operation(f"attention scores x {len(layers)}", (), len(layers), flops, f"none; {seen}"))
        return found
