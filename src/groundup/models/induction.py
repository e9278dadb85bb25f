"""Starting values by which a decoder answers "what came after this token last time?" from its first step.

    text             ... Mr. Darcy ... and Mr. ?
    layer 0, head 0  looks one place back: position of "Darcy" <- which token is "Mr."           (writes its code)
    layer 1, head 0  looks for the code of its own token: position of the second "Mr." -> "Darcy"
                     and adds to the score of the token it finds there, "Darcy"

    embedding        [ constant | code: zeros | tables fitted to pairs of tokens ]
                        |          ^
                        |          `-- layer 0 writes here, layer 1 compares here
                        `-- queries and keys made of this alone depend on positions only, not on tokens

Such pairs of heads are called induction heads (Olsson et al. 2022, arXiv 2209.11895). Models find them by themselves,
but late in a short run. A code is a random projection of whitened embeddings, so that tokens are told apart.
Nothing is left of it at export: all of it are values of a Llama's own matrices.

Invariant: the values follow from config, tables, counts and seed alone; parameters that are not named keep their start.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.models.decoder_config import DecoderConfig

CONSTANT_SHARE = 0.1
"""Of the embedding's mean square: what all tokens have in common."""
CODE_SHARE = 0.5
"""Mean square of the code that layer 0 writes, over that of the embedding."""
KEPT = 0.1
"""What remains of the random start of the heads that are given a task."""
WAVES = 4
"""The fastest rotary angles of a head, by which neighbours are told apart."""
SHARPNESS = 8.0
"""Score of attention where a head finds what it looks for, at least; sqrt(head_dim) in wide heads."""
COPIED_SCORE = 1.0
"""What a token's score gains when the second head looks at nothing else."""
RIDGE = 1e-3
SMALLEST = 16


def obstacle(config: DecoderConfig) -> str | None:
    """The first switch that such heads cannot be made with, in words for people; None when they can."""
    if config.positions != "rope":
        return f"model.positions: rope, not {config.positions}; heads look back by what rotation turns"
    if config.norm_placement != "before":
        return "model.norm_placement: before; norms behind a sum change what a head has written"
    if config.num_layers < 2:
        return "model.num_layers of 2 or more: one looks back, the next one compares"
    if min(config.head_size, config.hidden_size) < SMALLEST:
        return f"heads and model.hidden_size of {SMALLEST} or more, not {config.head_size} and {config.hidden_size}"
    return None


def reserved_columns(config: DecoderConfig) -> int:
    """Columns of the embedding that hold no token: the constant and the code."""
    return 1 + _code_size(config)


def _code_size(config: DecoderConfig) -> int:
    """Half of a head, the other half keeps the fast angles; at most a quarter of the stream."""
    return 2 * min(config.head_size // 4, config.hidden_size // 8)


def with_reserved(
    config: DecoderConfig, embedding: Float[Tensor, "vocab fitted"], head: Float[Tensor, "vocab fitted"]
) -> tuple[Float[Tensor, "vocab hidden"], Float[Tensor, "vocab hidden"]]:
    """Tables (embeddings with a mean square of 1) with the reserved columns before them: the same scores as without."""
    reserved = reserved_columns(config)
    factor = ((1 - CONSTANT_SHARE) * config.hidden_size / embedding.shape[1]) ** 0.5
    wide = torch.nn.functional.pad(embedding * factor, (reserved, 0))
    wide[:, 0] = (CONSTANT_SHARE * config.hidden_size) ** 0.5
    return wide, torch.nn.functional.pad(head / factor, (reserved, 0))


class InductionStart:
    """Starting values of both heads, for tables that `with_reserved` has made and tokens that occur so often."""

    def __init__(
        self,
        config: DecoderConfig,
        embedding: Float[Tensor, "vocab hidden"],
        head: Float[Tensor, "vocab hidden"],
        occurrences: Float[Tensor, " vocab"],
        seed: int,
    ) -> None:
        self.config = config
        self.gain = max(1.0, SHARPNESS / config.head_size**0.5) ** 0.5
        reserved, code_size = reserved_columns(config), _code_size(config)
        words, outputs = embedding[:, reserved:], head[:, reserved:]
        weights = ((occurrences + 1) / (occurrences + 1).sum())[:, None]
        covariance = _ridged(words.T @ (words * weights))
        values, vectors = torch.linalg.eigh(covariance)
        whiten = vectors @ (vectors / values.sqrt()).T
        drawn = torch.randn(len(whiten), code_size, generator=torch.Generator().manual_seed(seed))
        code = self._widened(torch.linalg.qr(drawn)[0].T @ whiten)
        # What to add to a normed state so that a token's score, and on average no other's, rises by one.
        raised = torch.linalg.solve(_ridged(outputs.T @ (outputs * weights)), outputs.T).T
        raised = raised / (raised * outputs).sum(1, keepdim=True).clamp_min(RIDGE)
        copied = torch.linalg.solve(covariance, words.T @ (raised * weights)).T
        left, sizes, right = torch.linalg.svd(copied @ torch.linalg.inv(whiten))
        rank = min(config.head_size, len(sizes))

        written = (CODE_SHARE * config.hidden_size / code_size) ** 0.5
        read_code = torch.nn.functional.pad(torch.eye(code_size) / written, (1, config.hidden_size - 1 - code_size))
        self.rows = {
            "layers.0.attention.query.weight": self._look(1),
            "layers.0.attention.key.weight": self._look(0),
            "layers.0.attention.value.weight": code,
            "layers.1.attention.query.weight": self._compare(code),
            "layers.1.attention.key.weight": self._compare(read_code),
            "layers.1.attention.value.weight": self._widened(right[:rank] @ whiten),
        }
        unit = 1.0 if config.embedding_norm else config.embedding_init_std
        write_code = torch.nn.functional.pad(written * torch.eye(code_size), (0, 0, 1, len(whiten)))
        raise_word = torch.nn.functional.pad(COPIED_SCORE * left[:, :rank] * sizes[:rank], (0, 0, reserved, 0))
        self.columns = {
            "layers.0.attention.output.weight": unit * write_code,
            "layers.1.attention.output.weight": unit * raise_word,
        }
        self.norms = {f"layers.{layer}.attention.{of}_norm.weight" for layer in (0, 1) for of in ("query", "key")}

    def start(self, name: str, drawn: Tensor) -> Tensor | None:
        """What a parameter that would start as `drawn` starts as; None where that is as it was."""
        made = drawn.clone()
        if name in self.rows:
            made[: self.config.head_size] *= KEPT
            made[: len(self.rows[name])] += self.rows[name]
        elif name in self.columns:
            made[:, : self.columns[name].shape[1]] = self.columns[name]
        elif name in self.norms:
            made *= self.gain
        else:
            return None
        return made

    def _widened(self, fitted: Float[Tensor, "rows fitted"]) -> Float[Tensor, "rows hidden"]:
        return torch.nn.functional.pad(fitted, (self.config.hidden_size - fitted.shape[1], 0))

    def _look(self, back: int) -> Float[Tensor, "head_dim hidden"]:
        """Queries that meet the keys of `back` = 0 best so many places before them."""
        config, half = self.config, self.config.head_size // 2
        angles = -back * config.rope_theta ** -(torch.arange(WAVES) / half)
        made = torch.zeros(config.head_size, config.hidden_size)
        size = self._size() / (WAVES * CONSTANT_SHARE * config.hidden_size) ** 0.5
        made[:WAVES, 0], made[half : half + WAVES, 0] = size * angles.cos(), size * angles.sin()
        return made

    def _compare(self, code: Float[Tensor, "code hidden"]) -> Float[Tensor, "head_dim hidden"]:
        """A code in the slowest rotary angles, which hardly depend on positions."""
        config, half = self.config, self.config.head_size // 2
        part = len(code) // 2
        made = torch.zeros(config.head_size, config.hidden_size)
        scaled = code * self._size() * ((1 + CODE_SHARE) / len(code)) ** 0.5
        made[half - part : half], made[-part:] = scaled[:part], scaled[part:]
        return made

    def _size(self) -> float:
        """Norm of queries and keys as projected; norms of their own (`qk_norm`) have the gain instead."""
        return float(self.config.head_size**0.5 * (1.0 if self.config.qk_norm else self.gain))


def _ridged(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    return gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
