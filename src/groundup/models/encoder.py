"""Encoders in the layout of BERT: token ids -> losses or scores; with what they know of themselves.

    tokens + positions + parts -> norm -> [ post-norm block ] * num_layers -> heads: masked tokens, next sentence

`Encoder` is what pretraining trains (masked tokens, next sentence); `Labeller` is the same body under a task's head.
Invariant: parameters are float32 masters that map one to one to those of transformers' BertForPreTraining; there are no
buffers, and nothing depends on the world size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from groundup.models.context import RowContext
from groundup.models.encoder_heads import (
    LabelHead,
    LabelKind,
    MaskedHead,
    label_losses,
    number_losses,
    span_losses,
)
from groundup.models.encoder_layers import EncoderBlock
from groundup.models.layers import LayerNorm
from groundup.models.losses import LossConfig
from groundup.models.network import Losses, Network, NetworkConfig, Role

Answer = tuple[Float[Tensor, " rows *heads"], Int[Tensor, " rows *heads"]] | Float[Tensor, "rows time scores"]


class EncoderConfig(NetworkConfig):
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
    tied: bool = True
    """Use the embedding table as the output matrix as well."""
    norm_epsilon: float = Field(default=1e-12, gt=0)
    """Added to the variance in every norm."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of all starting tables and matrices; biases start at 0."""

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
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def predicted_places(self) -> int:
        """Positions of a row at which something is predicted, at most."""
        return int(self.predicted_share * self.context_length)

    def kernels_obstacle(self) -> str | None:
        """The C++ kernels are for causal attention."""
        return "they are for decoders, and the model is an encoder"

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

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token at full context: 6 per matrix parameter and token it meets.

        Scores of tokens are computed for `predicted_share` of the positions; every position attends to all.
        """
        head = int(self.predicted_share * (vocab_size + self.hidden_size) * self.hidden_size)
        return self.body_flops_per_token() + 6 * head

    def body_flops_per_token(self) -> int:
        """What of it the blocks need."""
        attention = 12 * self.num_layers * self.hidden_size * self.context_length
        return 6 * self.num_layers * self.block_matrix_parameters() + attention


class LabellerConfig(EncoderConfig):
    """An encoder's body under a head for a task; recipes describe it by `model` and `task`."""

    kind: Literal["labeller"]  # type: ignore[assignment]
    task: LabelKind
    """What the head says: a label of each text or pair, a label of each word, a number, or a span of a text."""
    labels: tuple[str, ...] = ()
    """Names of the labels in the order of their scores; none for numbers and spans."""

    @model_validator(mode="after")
    def _named(self) -> LabellerConfig:
        if bool(self.labels) != (self.task in ("sequence", "token")):
            raise ValueError(f"a task of kind {self.task} has {'no labels' if self.labels else 'labels'}; give them so")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have the same name; name each by itself")
        return self

    @classmethod
    def on(cls, body: EncoderConfig, task: LabelKind, labels: Sequence[str] = ()) -> LabellerConfig:
        """A head for a task on the body of `body`."""
        fields = {**body.model_dump(), "kind": "labeller", "next_sentence": False}
        return cls(**fields, task=task, labels=tuple(labels))

    @property
    def outputs(self) -> int:
        """Scores of the head at each position."""
        return {"number": 1, "span": 2}.get(self.task, len(self.labels))

    @property
    def pooled(self) -> bool:
        """Whether BERT's pooler stands before the head: where the text as a whole is judged."""
        return self.task in ("sequence", "number")

    def build(self, vocab_size: int) -> Labeller:  # type: ignore[override]
        """An uninitialised labeller on the current default device."""
        return Labeller(self, vocab_size)

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters; computed, so a giant costs nothing."""
        return self.body_parameters(vocab_size) + self._head_matrices() + self._head_biases()

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token at full context."""
        return self.body_flops_per_token() + 6 * self._head_matrices()

    def _head_matrices(self) -> int:
        return self.hidden_size * (self.outputs + (self.hidden_size if self.pooled else 0))

    def _head_biases(self) -> int:
        return self.outputs + (self.hidden_size if self.pooled else 0)


class EncoderBody(Network):
    """Embeddings and blocks; subclasses put heads on top. Build it on any device, then `initialise` or load a state."""

    config: EncoderConfig
    head_name = "masked.output.weight"

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        size = config.hidden_size
        self.embedding = nn.Embedding(vocab_size, size)
        self.positions = nn.Embedding(config.context_length, size)
        self.parts = nn.Embedding(config.num_parts, size)
        self.embedding_norm = LayerNorm(size, config.norm_epsilon)
        self.layers = nn.ModuleList(
            EncoderBlock(size, config.num_heads, config.ffn_size, config.norm_epsilon) for _ in range(config.num_layers)
        )

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        parts: Int[Tensor, "rows time"] | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """States behind the last block. Default: one segment, positions 0, 1, 2 ..., part 0."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = F.embedding(tokens, self.embedding.weight) + F.embedding(positions, self.positions.weight)
        x = x + (self.parts.weight[0] if parts is None else F.embedding(parts, self.parts.weight))
        x = self.embedding_norm(x.to(self.compute_dtype))
        for block in self.layers:
            states: Tensor = block(x, segments)
            x = states
        return x

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        if name.endswith(("norm.weight", "bias")):
            return "vector"
        if name in (self.embedding_name, "positions.weight", "parts.weight"):
            return "embedding"
        return "head" if name.endswith("output.weight") and not name.startswith("layers.") else "matrix"

    def start(self, name: str, shape: torch.Size, seed: int) -> Tensor:
        """The starting values of a parameter: gains 1, biases 0, all else `init_std`."""
        if self.role(name) == "vector":
            return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, device="cpu")
        return self.normal(name, shape, seed, self.config.init_std)


class Encoder(EncoderBody, of=EncoderConfig):
    """A masked language model, with or without a head for next sentences."""

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.masked = MaskedHead(config.hidden_size, vocab_size, tied=config.tied, epsilon=config.norm_epsilon)
        self.next_sentence = LabelHead(config.hidden_size, 2, pooled=True) if config.next_sentence else None

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
        x = self.hidden(tokens, segments, positions, parts)
        if targets is None:
            return self.masked.logits(x, self.embedding.weight)
        masked, weights = targets, row_weights
        if targets.ndim == 3:
            masked, weights = targets[:, 0], None if row_weights is None else row_weights[:, 0]
        sums, counts = self.masked(x, self.embedding.weight, masked, weights, self.config.predicted_places)
        if targets.ndim == 2:
            return sums, counts
        if self.next_sentence is None:
            raise ValueError("targets of next sentences need next_sentence: true in the model's config")
        pair_sums, pair_counts = label_losses(self.next_sentence(x), targets[:, 1], self.loss)
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


class Labeller(EncoderBody):
    """An encoder's body under a head for a task: labels of texts or words, numbers, or spans."""

    config: LabellerConfig
    head_name = "label.output.weight"

    def __init__(self, config: LabellerConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.label = LabelHead(config.hidden_size, config.outputs, pooled=config.pooled)

    def pretrained_name(self, name: str) -> str:
        """What a pretrained `Encoder` calls this parameter; the pooler begins as that of next sentences."""
        return name.replace("label.pooler.", "next_sentence.pooler.")

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
        """With targets: sums of the losses and numbers of targets of each row; else scores [rows, time, outputs].

        Targets [rows, time]: labels, or numbers (`numbers_as_targets`); of spans [rows, 2, time], start and end.
        """
        scores: Tensor = self.label(self.hidden(tokens, segments, positions, parts))
        if targets is None:
            return scores
        return self.losses(scores, targets, segments, self.loss)

    def losses(
        self,
        scores: Float[Tensor, "rows time outputs"],
        targets: Int[Tensor, "rows *heads time"],
        segments: Int[Tensor, "rows time"] | None,
        loss: LossConfig,
    ) -> Losses:
        """Sums of the losses and numbers of targets of each row, by the scores of its positions."""
        if self.config.task == "number":
            return number_losses(scores, targets)
        if self.config.task == "span":
            if segments is None:
                segments = torch.zeros(scores.shape[:2], dtype=torch.int32, device=scores.device)
            return span_losses(scores, targets, segments[:, :, None] == segments[:, None, :])
        return label_losses(scores, targets, loss)
