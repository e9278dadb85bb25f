"""Encoders in the layout of BERT: token ids -> losses or scores; with what they know of themselves.

    tokens + positions + parts -> norm -> [ post-norm block ] * num_layers -> heads: masked tokens, next sentence

`Encoder` is what pretraining trains (masked tokens, next sentence); `models.labeller` has the same body under a task's
head.
Invariant: parameters are float32 masters that map one to one to those of transformers' BertForPreTraining; there are no
buffers, and nothing depends on the world size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from pydantic import Field, model_validator
from torch import Tensor, nn

from groundup.models.context import RowContext
from groundup.models.encoder_heads import (
    LabelHead,
    MaskedHead,
    first_targets,
    guarded,
    label_losses,
)
from groundup.models.encoder_layers import BidirectionalAttention, EncoderBlock, sight
from groundup.models.encoder_start import look_at_neighbours, position_waves
from groundup.models.heads import ChunkLoss
from groundup.models.layers import FeedForward, LayerNorm, Linear
from groundup.models.network import Network, NetworkConfig, Operation, Role
from groundup.models.noise import INPUT, NoiseConfig, dropout, layer_noise

SHORTEST_PAIR = 16
"""Tokens of a pair of texts: so far apart are the [CLS] of pairs in one row, at least."""
Answer = tuple[Float[Tensor, " rows *heads"], Int[Tensor, " rows *heads"]] | Float[Tensor, "rows time scores"]


class EncoderConfig(NoiseConfig, NetworkConfig):
    """An encoder in the layout of BERT: learned positions, segment embeddings, post-norm, GELU."""

    kind: Literal["encoder"]
    context_length: int = Field(ge=8)
    """Tokens the model sees at once, [CLS] and [SEP] included."""
    num_layers: int = Field(ge=1)
    """Number of blocks (attention and feed-forward)."""
    hidden_size: int = Field(ge=2)
    """Width of the residual stream."""
    num_heads: int = Field(ge=1)
    """Number of attention heads; they share hidden_size in equal parts."""
    ffn_size: int = Field(ge=1)
    """Inner width of the feed-forward part (two matrices)."""
    num_parts: int = Field(default=2, ge=1)
    """Rows of the segment embedding: texts of a pair (BERT: 2)."""
    next_sentence: bool = False
    """A second head says whether the second text of a pair follows the first; pretraining then makes such pairs."""
    predicted_share: float = Field(default=0.15, gt=0, le=1)
    """Largest share of a row's positions that is ever predicted; scores are computed for so many only."""
    classifier_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what the head of a task reads that is set to zero while it is trained."""
    tied: bool = True
    """Use the embedding table as the output matrix as well."""
    norm_epsilon: float = Field(default=1e-12, gt=0)
    """Added to the variance in every norm."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of all starting tables and matrices; biases start at 0."""
    attention_start: Literal["random", "neighbours"] = "random"
    """All at random as in BERT, or positions as waves and two heads of each layer that look at neighbours by them."""

    @model_validator(mode="after")
    def _consistent(self) -> EncoderConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if self.next_sentence and self.num_parts < 2:
            raise ValueError("next_sentence needs num_parts of 2 or more: a pair has two texts")
        if self.predicted_places < 1:
            raise ValueError("predicted_share of context_length is less than one position; raise one of them")
        return self

    @property
    def drops(self) -> bool:
        """Whether anything is dropped at all."""
        return super().drops or self.classifier_dropout > 0

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def predicted_places(self) -> int:
        """Positions of a row at which something is predicted, at most."""
        return int(self.predicted_share * self.context_length)

    @property
    def pair_places(self) -> int:
        """Pairs of texts in a row, at most."""
        return max(1, self.context_length // SHORTEST_PAIR)

    def kernels_obstacle(self) -> str | None:
        """They know all encoders."""
        return None

    def block_matrix_parameters(self) -> int:
        """Parameters of the matrices of one block."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.ffn_size

    def body_parameters(self, vocab_size: int) -> int:
        """Parameters below the heads."""
        tables = (vocab_size + self.context_length + self.num_parts) * self.hidden_size + 2 * self.hidden_size
        return tables + self.num_layers * (self.block_matrix_parameters() + 9 * self.hidden_size + self.ffn_size)

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once; computed, so a giant costs nothing."""
        size = self.hidden_size
        masked = size * size + 3 * size + vocab_size + (0 if self.tied else vocab_size * size)
        pair = size * size + size + 2 * size + 2 if self.next_sentence else 0
        return self.body_parameters(vocab_size) + masked + pair


class EncoderBody(Network):
    """Embeddings and blocks; subclasses put heads on top. Build it on any device, then `initialise` or load a state."""

    config: EncoderConfig
    head_name = "masked.output.weight"
    fused = False
    """Use the kernels where numbers are bfloat16."""

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        size = config.hidden_size
        self.embedding = nn.Embedding(vocab_size, size)
        self.positions = nn.Embedding(config.context_length, size)
        self.parts = nn.Embedding(config.num_parts, size)
        self.embedding_norm = LayerNorm(size, config.norm_epsilon)
        sizes = (size, config.num_heads, config.ffn_size, config.norm_epsilon)
        self.layers = nn.ModuleList(EncoderBlock(*sizes, config) for _ in range(config.num_layers))

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        parts: Int[Tensor, "rows time"] | None,
        context: RowContext | None = None,
        only: Int[Tensor, "rows places"] | None = None,
    ) -> Float[Tensor, "rows out hidden"]:
        """States behind the last block, at all positions or (`only`) at some, for which alone it is computed then.

        Default: one segment, positions 0, 1, 2 ..., part 0; nothing is dropped.
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = F.embedding(tokens, self.embedding.weight) + F.embedding(positions, self.positions.weight)
        x = x + (self.parts.weight[0] if parts is None else F.embedding(parts, self.parts.weight))
        config, keys = self.config, self.keys(context)
        x = dropout(self.embedding_norm(x.to(self.compute_dtype)), keys, INPUT, config.embedding_dropout)
        by_kernel = self.fused and x.dtype == torch.bfloat16 and (keys is None or config.attention_dropout == 0)
        seen = sight(segments, x.dtype, kernel=by_kernel)
        for index, block in enumerate(self.layers):
            noise = layer_noise(keys, index, config.num_layers, config.stochastic_depth)
            states: Tensor = block(x, seen, noise, only if index == config.num_layers - 1 else None)
            x = states
        return x

    def keys(self, context: RowContext | None) -> Int32[Tensor, " rows"] | None:
        """What decides what is dropped of each row; None: nothing is."""
        return context.keys if context and self.config.drops else None

    def set_kernels(self, on: bool) -> None:
        """Compute with the kernels of `groundup.kernels` wherever numbers are bfloat16; ask `ops.usable` first."""
        self.fused = on
        for module in self.modules():
            if isinstance(module, EncoderBlock | BidirectionalAttention | FeedForward | Linear | ChunkLoss):
                module.fused = on

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        if name.endswith(("norm.weight", "bias")):
            return "vector"
        if name in (self.embedding_name, "positions.weight", "parts.weight"):
            return "embedding"
        return "head" if name.endswith("output.weight") and not name.startswith("layers.") else "matrix"

    @property
    def target_places(self) -> int:
        """Positions of a row at which anything is predicted, at most; the end of the last layer is computed there."""
        return self.config.context_length

    def flops_per_weight(self, name: str) -> float:
        """Forward and backward of one token by one weight; what is behind the last attention at targets only."""
        last = f"layers.{self.config.num_layers - 1}."
        at_targets = name.startswith((f"{last}attention.output", f"{last}ffn."))
        share = min(1.0, self.target_places / self.config.context_length) if at_targets else 1.0
        return super().flops_per_weight(name) * share

    def operations(self) -> list[Operation]:
        """Scores of attention, of every position with all."""
        config = self.config
        flops = 12 * config.num_layers * config.hidden_size * config.context_length
        name, how = f"attention scores x {config.num_layers}", f"none; {config.context_length:,} keys"
        return [Operation(name, (), config.num_layers, flops, how)]

    def start(self, name: str, shape: torch.Size, seed: int) -> Tensor:
        """The starting values of a parameter: gains 1, biases 0, all else at random, or as `attention_start` says."""
        config = self.config
        if self.role(name) == "vector":
            return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, device="cpu")
        drawn = self.normal(name, shape, seed, config.init_std)
        if config.attention_start == "neighbours":
            if name == "positions.weight":
                return position_waves(shape[0], shape[1], config.init_std)
            layer, found, part = name.removeprefix("layers.").partition(".attention.")
            if found and part in ("query.weight", "key.weight"):
                return look_at_neighbours(drawn, config.num_heads, int(layer), query=part == "query.weight")
        return drawn


class Encoder(EncoderBody, of=EncoderConfig):
    """A masked language model, with or without a head for next sentences."""

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.masked = MaskedHead(config.hidden_size, vocab_size, tied=config.tied, epsilon=config.norm_epsilon)
        self.next_sentence = LabelHead(config.hidden_size, 2, pooled=True) if config.next_sentence else None

    @property
    def target_places(self) -> int:
        """Masked tokens, and the first token of pairs."""
        return self.config.predicted_places + (self.config.pair_places if self.config.next_sentence else 0)

    def flops_per_weight(self, name: str) -> float:
        """Forward and backward of one token by one weight; heads at their targets only."""
        return super().flops_per_weight(name) * self._share(name)

    def _share(self, name: str) -> float:
        places = {"masked": self.config.predicted_places, "next_sentence": self.config.pair_places}
        return places.get(name.partition(".")[0], self.config.context_length) / self.config.context_length

    def operations(self) -> list[Operation]:
        """Scores of attention, and the output matrix of a tied model where it is used."""
        share = self._share(self.head_name)
        heads = [replace(each, flops_per_token=round(each.flops_per_token * share)) for each in self.tied_head()]
        return [*heads, *super().operations()]

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows *heads time"] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "rows time"] | None = None,
        parts: Int[Tensor, "rows time"] | None = None,
        row_weights: Float[Tensor, "*sums"] | None = None,
        context: RowContext | None = None,
    ) -> Answer:
        """With targets: sums of the losses (nats, float32) and numbers of targets of each row, per head; else scores.

        Targets are [rows, time] (masked tokens), or [rows, 2, time] (masked tokens; whether a text follows, at [CLS]).
        `row_weights`: the derivative of the objective by each of the sums, if known beforehand (see `Decoder`).
        """
        if targets is None:
            return self.masked.logits(self.hidden(tokens, segments, positions, parts, context), self.embedding.weight)
        if targets.ndim == 2:
            only, chosen = first_targets(targets, self.config.predicted_places)
            states = guarded(self.hidden(tokens, segments, positions, parts, context, only), chosen, targets)
            masked_losses: tuple[Tensor, Tensor] = self.masked(states, self.embedding.weight, chosen, row_weights)
            return masked_losses
        if self.next_sentence is None:
            raise ValueError("targets of next sentences need next_sentence: true in the model's config")
        masked_at, masked = first_targets(targets[:, 0], self.config.predicted_places)
        pairs_at, pairs = first_targets(targets[:, 1], self.config.pair_places)
        x = self.hidden(tokens, segments, positions, parts, context, torch.cat([masked_at, pairs_at], dim=1))
        of_masked = guarded(x[:, : masked.shape[1]], masked, targets[:, 0])
        of_pairs = guarded(x[:, masked.shape[1] :], pairs, targets[:, 1])
        weights = None if row_weights is None else row_weights[:, 0]
        sums, counts = self.masked(of_masked, self.embedding.weight, masked, weights)
        pair_sums, pair_counts = label_losses(self.next_sentence(of_pairs), pairs, self.loss)
        return torch.stack([sums, pair_sums], 1), torch.stack([counts, pair_counts], 1)

    def pair_scores(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "rows time"] | None = None,
        parts: Int[Tensor, "rows time"] | None = None,
    ) -> Float[Tensor, "rows time 2"]:
        """Scores of "follows" and "does not" at every position; those at [CLS] mean something."""
        if self.next_sentence is None:
            raise ValueError("this encoder has no head for next sentences")
        scores: Tensor = self.next_sentence(self.hidden(tokens, segments, positions, parts))
        return scores
