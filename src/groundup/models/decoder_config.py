"""What a decoder is: its switches, and what follows from them by arithmetic (parameters, FLOPs, memory of the cache).

    Llama    rope, rms norm, gated silu                         Qwen2  + attention_bias: qkv
    Mistral  + sliding_window                                   Qwen3  + qk_norm
    GPT-2    learned positions, layer norm, gelu_tanh, gated: false, all biases, tied
    classic  sinusoidal positions, layer norm (first or after), relu, gated: false, all biases, scale_embedding

Invariant: nothing here allocates; a giant costs nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from groundup.models.activations import Activation
from groundup.models.network import NetworkConfig
from groundup.models.noise import NoiseConfig
from groundup.models.rotary import RopeScaling
from groundup.models.scaling import ScalingConfig

Positions = Literal["rope", "learned", "sinusoidal"]


class DecoderConfig(NoiseConfig, NetworkConfig):
    """A decoder: one set of switches for Llama, Mistral, Qwen2, Qwen3, GPT-2 and the classic Transformer."""

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
    head_dim: int | None = Field(default=None, ge=1)
    """Width of a head; hidden_size / num_heads when not given."""
    ffn_size: int = Field(ge=1)
    """Inner width of the feed-forward part."""
    qk_norm: bool = True
    """Norm queries and keys per head before the rotation (Qwen3 layout); false gives the Llama layout."""
    positions: Positions = "rope"
    """How a token knows its place: rotated queries and keys, a learned table, or fixed waves added to the embedding."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary angles; larger for longer contexts."""
    rope_scaling: RopeScaling | None = None
    """How the rotary angles of a model are stretched for a longer context than it was first trained on."""
    sliding_window: int | None = Field(default=None, ge=1)
    """A position sees so many positions, itself included (Mistral); all earlier ones when not given."""
    full_attention_layers: tuple[int, ...] = ()
    """Layers (counted from 0) that see all earlier positions in spite of a sliding window."""
    norm: Literal["rms", "layer"] = "rms"
    """Root-mean-square norm with a gain, or LayerNorm with gain and shift."""
    norm_placement: Literal["before", "after"] = "before"
    """Norm what goes into attention and feed-forward and once at the end (pre-norm), or what comes out (post-norm)."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    """Added to the mean square (or variance) in every norm."""
    activation: Activation = "silu"
    """Nonlinearity of the feed-forward part."""
    gated: bool = True
    """Feed-forward of three matrices, `down(activation(gate x) * up x)`; false: `down(activation(up x))`."""
    attention_bias: Literal["none", "qkv", "all"] = "none"
    """Biases of the attention's matrices: none, those of queries, keys and values (Qwen2), or all four."""
    ffn_bias: bool = False
    """Biases of the feed-forward matrices."""
    tied: bool = False
    """Use the embedding table as the output matrix as well."""
    embedding_norm: bool = False
    """Norm the embedding output; folds into the table at export, so only for untied models."""
    scale_embedding: bool = False
    """Multiply the embedding by sqrt(hidden_size), as the classic Transformer does."""
    zero_init: bool = False
    """Start the output matrices of attention and feed-forward at zero, so that each block starts as the identity."""
    init_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the starting matrices; 1 / sqrt(inputs) of each when not given."""
    embedding_init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the starting embedding table (and of learned positions)."""
    head_init_std: float = Field(default=0.02, ge=0)
    """Standard deviation of the starting output matrix of an untied model; 0 starts at equal scores for all tokens."""
    scaling: ScalingConfig | None = None
    """The base model whose learning rates are to hold here (muP, CompleteP); starting values and rates follow."""

    @model_validator(mode="after")
    def _consistent(self) -> DecoderConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                "query heads share key heads in equal groups"
            )
        if self.hidden_size % self.num_heads and self.head_dim is None:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}; "
                "change one of them, or give head_dim"
            )
        if self.head_size % 2 and self.positions == "rope":
            raise ValueError(f"head_dim {self.head_size} is odd; rotary positions turn pairs, so it must be even")
        if self.embedding_norm and self.tied:
            raise ValueError("embedding_norm needs tied: false; it folds into the embedding table only")
        if self.rope_scaling is not None and self.positions != "rope":
            raise ValueError(f"rope_scaling goes with positions: rope, not {self.positions}; leave it out")
        if any(not 0 <= layer < self.num_layers for layer in self.full_attention_layers):
            raise ValueError(
                f"full_attention_layers {list(self.full_attention_layers)[:8]} are not all layers 0 to "
                f"{self.num_layers - 1}"
            )
        if self.scaling is not None:
            self._check_scaling(self.scaling)
        return self

    def _check_scaling(self, base: ScalingConfig) -> None:
        """Raise ValueError where no rule is known that carries learning rates over from the base model."""
        if self.tied:
            raise ValueError("scaling needs tied: false; a table that is input and output needs two rates at once")
        if self.scale_embedding:
            raise ValueError("scaling needs scale_embedding: false; that factor grows with hidden_size")
        if self.num_heads * base.base_hidden_size != base.base_num_heads * self.hidden_size:
            raise ValueError(
                f"scaling: heads keep their width, so hidden_size {self.hidden_size} needs num_heads "
                f"{self.hidden_size * base.base_num_heads / base.base_hidden_size:g}, not {self.num_heads} "
                f"(base: {base.base_num_heads} at {base.base_hidden_size})"
            )
        if self.norm_placement == "after" and self.num_layers != base.base_num_layers:
            raise ValueError(
                "scaling over depth needs norm_placement: before; norms behind undo what a branch counts; "
                f"use num_layers: {base.base_num_layers}"
            )

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.head_dim or self.hidden_size // self.num_heads

    def window(self, layer: int) -> int | None:
        """Positions that one of this layer sees; None: all earlier ones, also where the context is not longer."""
        wide = self.sliding_window is None or self.sliding_window >= self.context_length
        return None if wide or layer in self.full_attention_layers else self.sliding_window

    def block_matrix_parameters(self) -> int:
        """Parameters of the matrices of one block."""
        attention = 2 * self.hidden_size * self.head_size * (self.num_heads + self.num_kv_heads)
        return attention + (3 if self.gated else 2) * self.hidden_size * self.ffn_size

    def block_vector_parameters(self) -> int:
        """Parameters of the norms and biases of one block."""
        norms = 2 * self._norm_parameters(self.hidden_size) + 2 * self._norm_parameters(self.head_size) * self.qk_norm
        projected = self.head_size * (self.num_heads + 2 * self.num_kv_heads)
        biases = {"none": 0, "qkv": projected, "all": projected + self.hidden_size}[self.attention_bias]
        return norms + biases + ((1 + self.gated) * self.ffn_size + self.hidden_size) * self.ffn_bias

    def _norm_parameters(self, size: int) -> int:
        return size * (2 if self.norm == "layer" else 1)

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once; computed, so a giant costs nothing."""
        tables = vocab_size * self.hidden_size * (1 if self.tied else 2)
        positions = self.context_length * self.hidden_size if self.positions == "learned" else 0
        last = self._norm_parameters(self.hidden_size) if self.norm_placement == "before" else 0
        blocks = self.num_layers * (self.block_matrix_parameters() + self.block_vector_parameters())
        return tables + positions + blocks + last

    def keys_seen(self, layer: int) -> float:
        """Keys that a query of this layer meets, on average over a full context: half of it without a window."""
        window = self.window(layer) or self.context_length
        return window - window * window / (2 * self.context_length)

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token at full context: 6 per matrix parameter; causal attention counted once.

        Attention: scores and mixing, 2 * 2 * width * keys seen forward, three times that with the backward.
        """
        matrices = self.num_layers * self.block_matrix_parameters() + vocab_size * self.hidden_size
        seen = sum(self.keys_seen(layer) for layer in range(self.num_layers))
        return 6 * matrices + round(12 * self.num_heads * self.head_size * seen)

    def cache_bytes(self, rows: int, time: int, bytes_per_value: int = 2) -> int:
        """Key-value cache of `rows` sequences of `time` tokens."""
        return 2 * self.num_layers * rows * self.num_kv_heads * time * self.head_size * bytes_per_value

    def tensor_obstacle(self, ranks: int) -> str | None:
        """The first number of the model that so many ranks cannot share, in words for people; None when they can.

        Fewer heads of keys and values than ranks are as well: several ranks then use the same one.
        """
        if self.num_heads % ranks:
            return f"it does not divide model.num_heads {self.num_heads}"
        if self.num_kv_heads % ranks and ranks % self.num_kv_heads:
            return f"it neither divides model.num_kv_heads {self.num_kv_heads} nor is a multiple of it"
        return f"it does not divide model.ffn_size {self.ffn_size}" if self.ffn_size % ranks else None

    def context_obstacle(self) -> str | None:
        """Attention asks other ranks for their keys and values; all else goes position by position."""
        return None

    def kernels_obstacle(self) -> str | None:
        """The first switch that the C++ kernels do not know, in words for people; None when they serve this model.

        They compute rotary positions (of any scaling), rms norms before each part, gated silu, and no biases.
        """
        known = {
            "positions": (self.positions, "rope"),
            "norm": (self.norm, "rms"),
            "norm_placement": (self.norm_placement, "before"),
            "activation": (self.activation, "silu"),
            "gated": (self.gated, True),
            "attention_bias": (self.attention_bias, "none"),
            "ffn_bias": (self.ffn_bias, False),
            "scale_embedding": (self.scale_embedding, False),
        }
        for name, (value, served) in known.items():
            if value != served:
                return f"they do not know model.{name}: {str(value).lower()}"
        if any(self.window(layer) is not None for layer in range(self.num_layers)):
            return f"they do not know model.sliding_window: {self.sliding_window}"
        return None
