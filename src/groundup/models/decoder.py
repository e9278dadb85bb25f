"""The decoder: token ids -> losses or logits; with what it knows of itself (sizes, costs, roles of its parameters).

    tokens -> embedding -> [ x + attention(norm x) ; x + swiglu(norm x) ] * num_layers -> norm -> head

Invariant: parameters are float32 masters in the layout and the naming that fold into Hugging Face's Llama (or, with
`qk_norm`, Qwen3) without change of the function; there are no buffers, and nothing depends on the world size.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from groundup.kernels import ops
from groundup.models.attention import Attention, AttentionKind
from groundup.models.context import RowContext
from groundup.models.heads import ChunkLoss, LanguageModelHead
from groundup.models.initial import fill, generator
from groundup.models.layers import Embedding, RMSNorm, Rotation, SwiGLU, rotation
from groundup.models.losses import LossConfig
from groundup.models.noise import (
    ATTENTION_BRANCH,
    FFN_BRANCH,
    INPUT,
    LayerNoise,
    NoiseConfig,
    dropout,
    layer_noise,
    residual_branch,
)

Role = Literal["matrix", "embedding", "head", "vector"]


class DecoderConfig(NoiseConfig):
    """A decoder that exports to a native Hugging Face layout: Llama, or Qwen3 with `qk_norm`."""

    kind: Literal["decoder"] = "decoder"
    context_length: int = Field(ge=2)
    """Tokens the model sees at once, in training and in use."""
    num_layers: int = Field(ge=1)
    """Number of blocks (attention and feed-forward)."""
    hidden_size: int = Field(ge=2)
    """Width of the residual stream."""
    num_heads: int = Field(ge=1)
    """Number of query heads."""
    num_kv_heads: int = Field(ge=1)
    """Number of key and value heads; query heads share them in equal groups."""
    head_dim: int | None = Field(default=None, ge=2)
    """Width of a head; hidden_size / num_heads when not given."""
    ffn_size: int = Field(ge=1)
    """Inner width of the feed-forward part (SwiGLU: three matrices)."""
    qk_norm: bool = True
    """Norm queries and keys per head before the rotation (Qwen3 layout); false gives the Llama layout."""
    tied: bool = False
    """Use the embedding table as the output matrix as well."""
    embedding_norm: bool = False
    """Norm the embedding output; folds into the table at export, so only for untied models."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary angles; larger for longer contexts."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    """Added to the mean square in every norm."""
    zero_init: bool = False
    """Start the output matrices of attention and feed-forward at zero, so that each block starts as the identity."""
    init_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the starting matrices; 1 / sqrt(inputs) of each when not given."""
    embedding_init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the starting embedding table."""
    head_init_std: float = Field(default=0.02, ge=0)
    """Standard deviation of the starting output matrix of an untied model; 0 starts at equal scores for all tokens."""

    @model_validator(mode="after")
    def _consistent(self) -> DecoderConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                "query heads share key heads in equal groups"
            )
        if self.hidden_size % self.num_heads and (self.head_dim is None or not self.qk_norm):
            remedy = "give head_dim" if self.qk_norm else "give head_dim and qk_norm: true (Llama's layout needs it)"
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}; "
                f"change one of them, or {remedy}"
            )
        if self.head_size % 2:
            raise ValueError(f"head_dim {self.head_size} is odd; rotary positions turn pairs, so it must be even")
        if self.embedding_norm and self.tied:
            raise ValueError("embedding_norm needs tied: false; it folds into the embedding table only")
        return self

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.head_dim or self.hidden_size // self.num_heads

    def block_matrix_parameters(self) -> int:
        """Parameters of the matrices of one block."""
        attention = 2 * self.hidden_size * self.head_size * (self.num_heads + self.num_kv_heads)
        return attention + 3 * self.hidden_size * self.ffn_size

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once; computed, so a giant costs nothing."""
        vectors = 2 * self.hidden_size + 2 * self.head_size * self.qk_norm
        tables = vocab_size * self.hidden_size * (1 if self.tied else 2)
        return tables + self.num_layers * (self.block_matrix_parameters() + vectors) + self.hidden_size

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token at full context: 6 per matrix parameter; causal attention counted once.

        Attention: scores and mixing, 2 * 2 * width * context / 2 forward, three times that with the backward.
        """
        matrices = self.num_layers * self.block_matrix_parameters() + vocab_size * self.hidden_size
        attention = 6 * self.num_layers * self.num_heads * self.head_size * self.context_length
        return 6 * matrices + attention

    def cache_bytes(self, rows: int, time: int, bytes_per_value: int = 2) -> int:
        """Key-value cache of `rows` sequences of `time` tokens."""
        return 2 * self.num_layers * rows * self.num_kv_heads * time * self.head_size * bytes_per_value


@runtime_checkable
class KeyValueCache(Protocol):
    """What prefill and decode need: per layer [rows, kv_heads, max_time, head_dim], and the length that is filled."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int


class Block(nn.Module):
    """One layer: `x + attention(norm x)`, then `x + swiglu(norm x)`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        size, epsilon = config.hidden_size, config.norm_epsilon
        self.attention_norm = RMSNorm(size, epsilon)
        self.attention = Attention(
            size, config.num_heads, config.num_kv_heads, config.head_size, qk_norm=config.qk_norm, epsilon=epsilon
        )
        self.attention.dropout = config.attention_dropout
        self.ffn_norm = RMSNorm(size, epsilon)
        self.ffn = SwiGLU(size, config.ffn_size)

    def forward(
        self,
        x: Float[Tensor, "rows time hidden"],
        by: Rotation,
        segments: Int[Tensor, "rows time"] | None,
        noise: LayerNoise | None = None,
    ) -> Float[Tensor, "rows time hidden"]:
        """[rows, time, hidden_size] -> the same shape."""
        mixed = self.attention(self.attention_norm(x), by, segments, noise)
        mixed = residual_branch(mixed, noise, ATTENTION_BRANCH, self.config)
        if self.ffn_norm.fused and x.dtype == torch.bfloat16:
            x, normed = ops.add_rms_norm(x, mixed, self.ffn_norm.weight, self.ffn_norm.epsilon)
        else:
            x = x + mixed
            normed = self.ffn_norm(x)
        y: Tensor = x + residual_branch(self.ffn(normed), noise, FFN_BRANCH, self.config)
        return y

    def cached(
        self, x: Float[Tensor, "rows time hidden"], by: Rotation, keys: Tensor, values: Tensor, length: int
    ) -> Float[Tensor, "rows time hidden"]:
        """As `forward`, over a cache filled up to `length`; never compiled, so any shape is welcome."""
        x = x + self.attention.cached(self.attention_norm(x), by, keys, values, length)
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y


class Decoder(nn.Module):
    """A causal language model. Build it on any device ("meta" included), then `initialise` or load a state."""

    head_name = "head.weight"
    embedding_name = "embedding.weight"

    def __init__(self, config: DecoderConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype = torch.float32
        self.embedding = Embedding(
            vocab_size, config.hidden_size, norm=config.embedding_norm, epsilon=config.norm_epsilon
        )
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.head = LanguageModelHead(config.hidden_size, vocab_size, tied=config.tied)

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows time"] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "rows time"] | None = None,
        row_weights: Float[Tensor, " rows"] | None = None,
        context: RowContext | None = None,
    ) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]] | Float[Tensor, "rows time vocab"]:
        """With targets: the sum of the losses (nats, float32) and the number of valid targets of each row; else logits.

        `segments` keeps documents apart, `positions` (default 0, 1, 2 ...) are the rotary positions.
        `row_weights`: the derivative of the objective by each row's loss sum, if known beforehand. The head then makes
        its gradients at once instead of computing the logits a second time in the backward; the gradient that comes
        back must be a multiple of these weights, or all gradients become NaN. `context`: the rows' keys for dropout;
        without, nothing is dropped.
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        by = rotation(positions, self.config.head_size, self.config.rope_theta)
        config = self.config
        keys = context.keys if context and config.drops else None
        x = dropout(self.embedding(tokens, self.compute_dtype), keys, INPUT, config.embedding_dropout)
        for index, block in enumerate(self.layers):
            x = block(x, by, segments, layer_noise(keys, index, config.num_layers, config.stochastic_depth))
        x = self.norm(x)
        if targets is None:
            return self.head.logits(x, self.embedding.weight)
        loss_sums, counts = self.head(x, self.embedding.weight, targets, row_weights)
        return loss_sums, counts

    def prefill(self, tokens: Int[Tensor, "rows time"], cache: KeyValueCache) -> Float[Tensor, "rows vocab"]:
        """Append equally long `tokens` to the cache, from `cache.length`; float32 logits of the last position.

        Raises ValueError when the cache is too short.
        """
        start, time = cache.length, tokens.shape[1]
        limit = cache.keys[0].shape[2]
        if start + time > limit:
            raise ValueError(
                f"{start + time} tokens do not fit a cache of {limit}; make the cache longer or the prompt shorter"
            )
        positions = torch.arange(start, start + time, device=tokens.device)[None]
        by = rotation(positions, self.config.head_size, self.config.rope_theta)
        x = self.embedding(tokens, self.compute_dtype)
        for index, block in enumerate(self.blocks()):
            x = block.cached(x, by, cache.keys[index], cache.values[index], start)
        cache.length = start + time
        return self.head.logits(self.norm(x[:, -1]), self.embedding.weight)

    def decode(self, tokens: Int[Tensor, "rows 1"], cache: KeyValueCache) -> Float[Tensor, "rows vocab"]:
        """Append one token a row at `cache.length`; float32 logits of the next one. Raises ValueError when full."""
        return self.prefill(tokens, cache)

    def memory(self, rows: int, device: torch.device) -> dict[str, Tensor]:
        """Nothing is carried from window to window: attention sees its own row only."""
        return {}

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Compute in float32 or bfloat16; parameters keep their own dtype."""
        self.compute_dtype = dtype

    def set_attention(self, kind: AttentionKind) -> None:
        """Choose the way attention is computed: `auto` (by device and length), `blocks` or `sdpa`."""
        for block in self.blocks():
            block.attention.kind = kind

    def set_kernels(self, on: bool) -> None:
        """Compute with the kernels of `groundup.kernels` wherever numbers are bfloat16; ask `ops.usable` first."""
        for module in self.modules():
            if isinstance(module, Embedding | RMSNorm | Attention | SwiGLU | ChunkLoss):
                module.fused = on

    def set_loss(self, loss: LossConfig) -> None:
        """What is added to cross-entropy in training."""
        self.head.chunk_loss.loss = loss

    def blocks(self) -> list[Block]:
        """The repeated units: sharded, compiled and recomputed one by one."""
        return [block for block in self.layers if isinstance(block, Block)]

    def compile_units(self) -> list[nn.Module]:
        """What is worth compiling; all blocks share one compiled graph."""
        return [*self.layers, self.norm, self.head.chunk_loss]

    def matrix_parameters(self) -> set[str]:
        """Names of the two-dimensional hidden matrices (for Muon): neither embedding nor head."""
        return {name for name, _ in self.named_parameters() if self.role(name) == "matrix"}

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        if name == self.embedding_name:
            return "embedding"
        if name == self.head_name:
            return "head"
        return "vector" if name.endswith("norm.weight") else "matrix"

    def initialise(self, seed: int) -> None:
        """Fill every parameter from its own generator, seeded by (seed, name): the same for any number of ranks."""
        for name, parameter in self.named_parameters():
            fill(parameter, self._start(name, parameter.shape, seed))

    def _start(self, name: str, shape: torch.Size, seed: int) -> Tensor:
        role, config = self.role(name), self.config
        if role == "vector":
            return torch.ones(shape, device="cpu")
        if config.zero_init and name.endswith(("attention.output.weight", "ffn.down.weight")):
            return torch.zeros(shape, device="cpu")
        fan_in = 1 / math.sqrt(shape[1])
        std = {
            "embedding": config.embedding_init_std,
            "head": config.head_init_std,
            "matrix": config.init_std or fan_in,
        }
        return torch.empty(shape, device="cpu").normal_(0.0, std[role], generator=generator(seed, name))
