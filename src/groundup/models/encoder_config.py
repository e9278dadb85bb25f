"""What an encoder is: its sizes, what it drops while it is trained, and what follows from them by arithmetic.

Invariant: nothing here allocates; a giant costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from groundup.models.network import NetworkConfig
from groundup.models.noise import NoiseConfig

if TYPE_CHECKING:
    from groundup.models.encoder import Encoder

SHORTEST_PAIR, SHORTEST_TEXT = 5, 2
"""Tokens of `[CLS] a [SEP] b [SEP]` and of `[CLS] [SEP]`: so far apart are the [CLS] of texts in one row, at least."""


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

    @model_validator(mode="after")
    def _consistent(self) -> EncoderConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if self.next_sentence and self.num_parts < 2:
            raise ValueError("next_sentence needs num_parts of 2 or more: a pair has two texts")
        if self.predicted_places < 1:
            raise ValueError("predicted_share of context_length is less than one position; raise one of them")
        return self

    def build(self, vocab_size: int) -> Encoder:
        """An uninitialised encoder on the current default device."""
        from groundup.models.encoder import Encoder  # it needs this config, so it lies above

        return Encoder(self, vocab_size)

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
        return self.context_length // SHORTEST_PAIR

    def kernels_obstacle(self) -> str | None:
        """They know all encoders."""
        return None

    def block_matrix_parameters(self) -> int:
        """Parameters of the matrices of one block."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.ffn_size

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once; computed, so a giant costs nothing."""
        size = self.hidden_size
        tables = (vocab_size + self.context_length + self.num_parts) * size + 2 * size
        blocks = self.num_layers * (self.block_matrix_parameters() + 9 * size + self.ffn_size)
        masked = size * size + 3 * size + vocab_size + (0 if self.tied else vocab_size * size)
        pair = size * size + size + 2 * size + 2 if self.next_sentence else 0
        return tables + blocks + masked + pair
