"""Heads of encoders: hidden states and targets -> the loss sum of every row.

    MaskedHead    hidden of the masked positions -> dense, GELU, norm -> scores of all tokens (the embedding table)
    LabelHead     hidden of every position [-> pooler] -> scores of a few labels (of one or of several at a time), a
                  number, or start and end of a span

Targets stand at the position they belong to: that of a masked token, the [CLS] of a text, the first token of a word; so
several texts in one row (packed) need nothing of their own. Invariant: losses are float32 sums of a row, 0 for what has
no target, and no shape depends on data.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor, nn

from groundup.models.heads import LanguageModelHead
from groundup.models.layers import LayerNorm, Linear
from groundup.models.losses import IGNORE, LossConfig, WeightedLossConfig, cross_entropy
from groundup.models.noise import HEAD, dropout

LabelKind = Literal["sequence", "multilabel", "token", "number", "span"]
"""What a label head says: a label of each text, any number of labels of each text, a label of each word, a number of
each text, a span of each text."""

POOLED: tuple[LabelKind, ...] = ("sequence", "multilabel", "number")
"""What is said of a whole text, at its [CLS], by BERT's pooler."""
NAMING: tuple[LabelKind, ...] = ("sequence", "multilabel", "token")
"""What is said by labels, which have names."""
SET_BITS = 31
"""Labels that one target says of a set of labels, a bit each; more labels have more targets."""


def first_targets(
    targets: Int[Tensor, "rows time"], places: int
) -> tuple[Int[Tensor, "rows places"], Int[Tensor, "rows places"]]:
    """Which `places` positions of each row have a target first, and what it is; others fill the row up."""
    chosen = torch.sort((targets == IGNORE).int(), dim=1, stable=True).indices[:, :places]
    return chosen, targets.gather(1, chosen)


def guarded(
    states: Float[Tensor, "rows places hidden"], chosen: Int[Tensor, "rows places"], targets: Int[Tensor, "rows time"]
) -> Float[Tensor, "rows places hidden"]:
    """The states, NaN in a row that has more targets than were chosen, so that a wrong use cannot pass unseen."""
    lost = (chosen != IGNORE).sum(1) < (targets != IGNORE).sum(1)
    return states.masked_fill(lost[:, None, None], float("nan"))


class MaskedHead(nn.Module):
    """Scores of what a masked token was, as in BERT: the table of the embedding (or one of its own) and a bias."""

    def __init__(self, hidden_size: int, vocab_size: int, *, tied: bool, epsilon: float) -> None:
        super().__init__()
        self.transform = Linear(hidden_size, hidden_size, bias=True)
        self.norm = LayerNorm(hidden_size, epsilon)
        self.output = LanguageModelHead(hidden_size, vocab_size, tied=tied)
        self.bias = nn.Parameter(torch.empty(vocab_size))

    def logits(
        self, hidden: Float[Tensor, "*batch hidden"], embedding: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*batch vocab"]:
        """Scores of all tokens, float32."""
        return self.output.logits(self._transformed(hidden), embedding) + self.bias.float()

    def forward(
        self,
        states: Float[Tensor, "rows places hidden"],
        embedding: Float[Tensor, "vocab hidden"],
        targets: Int[Tensor, "rows places"],
        row_weights: Float[Tensor, " rows"] | None,
    ) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Sums of the losses and numbers of targets of each row."""
        states = self._transformed(states)
        # The bias as one more column keeps the head's chunked losses as they are.
        table = embedding if self.output.weight is None else self.output.weight
        wide = torch.cat([states, states.new_ones(*states.shape[:-1], 1)], dim=-1)
        matrix = torch.cat([table, self.bias[:, None]], dim=1)
        return self.output.losses(wide, matrix, targets, row_weights)

    def _transformed(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        states: Tensor = self.norm(F.gelu(self.transform(hidden)))
        return states


class LabelHead(nn.Module):
    """A few scores at every position; `pooled` puts BERT's pooler (dense, tanh) before them."""

    def __init__(self, hidden_size: int, outputs: int, *, pooled: bool) -> None:
        super().__init__()
        self.pooler = Linear(hidden_size, hidden_size, bias=True) if pooled else None
        self.output = Linear(hidden_size, outputs, bias=True)

    def forward(
        self, hidden: Float[Tensor, "rows time hidden"], keys: Int32[Tensor, " rows"] | None = None, rate: float = 0.0
    ) -> Float[Tensor, "rows time outputs"]:
        """Scores, float32; with keys a share `rate` of what the last matrix reads is dropped."""
        states = hidden if self.pooler is None else torch.tanh(self.pooler(hidden))
        scores: Tensor = self.output(dropout(states, keys, HEAD, rate)).float()
        return scores


def label_losses(
    scores: Float[Tensor, "rows time labels"], targets: Int[Tensor, "rows time"], loss: LossConfig
) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
    """Cross-entropy at the positions that have a target: sum and count of each row."""
    weights = None
    if isinstance(loss, WeightedLossConfig):
        weights = torch.tensor(loss.class_weights, dtype=torch.float32, device=scores.device)
    losses = cross_entropy(scores.flatten(0, 1), targets.flatten(), loss, weights)
    return losses.view(targets.shape).sum(1), (targets != IGNORE).sum(1)


def multilabel_losses(
    scores: Float[Tensor, "rows time labels"], targets: Int[Tensor, "rows *sets time"], loss: LossConfig
) -> tuple[Float[Tensor, " rows *sets"], Int[Tensor, " rows *sets"]]:
    """Binary cross-entropy of every label, a mean over the labels, at the positions that have a target.

    Targets are sets of labels: bit i of target k says whether the text has label `SET_BITS` k + i. Where there are
    several [rows, sets, time], each has a sum and a count of its own; the sums are parts of the mean over all labels.
    Weights of classes count a label where a text has it (`pos_weight` of torch), smoothing draws both answers to 1/2.
    """
    one = targets.ndim == 2
    sets = targets[:, None] if one else targets
    bits = torch.arange(SET_BITS, device=targets.device)
    wanted = (
        ((sets.clamp(min=0)[..., None] >> bits) & 1).permute(0, 2, 1, 3).flatten(2)[..., : scores.shape[-1]].float()
    )
    smooth = loss.label_smoothing
    weights = None
    if isinstance(loss, WeightedLossConfig):
        weights = torch.tensor(loss.class_weights, dtype=torch.float32, device=scores.device)
    each = F.binary_cross_entropy_with_logits(
        scores, wanted * (1 - smooth) + smooth / 2, reduction="none", pos_weight=weights
    )
    padded = F.pad(each, (0, sets.shape[1] * SET_BITS - scores.shape[-1]))
    of_sets = padded.view(*each.shape[:2], sets.shape[1], SET_BITS).sum(-1) / scores.shape[-1]
    valid = sets != IGNORE
    sums, counts = (of_sets.transpose(1, 2) * valid).sum(2), valid.sum(2)
    # Sums over the one set: FSDP wants no views.
    return (sums.sum(1), counts.sum(1)) if one else (sums, counts)


def number_losses(
    scores: Float[Tensor, "rows time 1"], targets: Int[Tensor, "rows time"]
) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
    """Squared error at the positions that have a target (`numbers_as_targets`): sum and count of each row."""
    valid = targets != IGNORE
    wanted = torch.where(valid, targets, 0).to(torch.int32).view(torch.float32)
    return ((scores[..., 0] - wanted).square() * valid).sum(1), valid.sum(1)


def numbers_as_targets(numbers: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """Finite float32 numbers as targets: their bit patterns, of which IGNORE is none (it would be a NaN)."""
    return numbers.to(torch.float32).view(torch.int32).long()


def span_losses(
    scores: Float[Tensor, "rows time 2"], targets: Int[Tensor, "rows 2 time"], allowed: Bool[Tensor, "rows time time"]
) -> tuple[Float[Tensor, "rows 2"], Int[Tensor, "rows 2"]]:
    """Cross-entropy of the start's and of the end's place among `allowed[row, cls, :]`: sums and counts of each row.

    A target stands at the [CLS] of its text and is the place in the row at which the span starts (ends).
    """
    log_total = torch.logsumexp(
        scores.transpose(1, 2)[:, :, None].masked_fill(~allowed[:, None], float("-inf")), dim=-1
    )
    valid = targets != IGNORE
    hit = scores.transpose(1, 2).gather(2, targets.clamp(min=0))
    return torch.where(valid, log_total - hit, 0.0).sum(2), valid.sum(2)
