"""A vocabulary shared out over ranks: each has the rows of its tokens in the tables, and their scores.

    scores of own tokens [chunk, own] --max, then sums over the ranks--> losses of all targets, the same on every rank

Invariant: no rank ever holds the scores of another; losses are those of one rank to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.models.lane import Lane, local
from groundup.models.losses import IGNORE, LossConfig


def rows_of_a_part(vocab_size: int, lane: Lane) -> int:
    """Tokens of each rank; of the last one perhaps fewer."""
    return -(-vocab_size // lane.parts)


def own_rows(table: Float[Tensor, "vocab size"], lane: Lane) -> Float[Tensor, "own size"]:
    """This rank's rows of a table that is shared out, or (where it cannot be evenly) that every rank has whole."""
    vocab_size, found = table.shape[0], local(table)
    if found.shape[0] < vocab_size:
        return found
    rows = rows_of_a_part(vocab_size, lane)
    return found[lane.part * rows : (lane.part + 1) * rows]


def look_up(
    tokens: Int[Tensor, "*batch"], table: Float[Tensor, "vocab size"], lane: Lane
) -> Float[Tensor, "*batch size"]:
    """Rows of the whole table: each rank brings those that it has, the others bring zeros."""
    rows = own_rows(table, lane)
    places = tokens - lane.part * rows_of_a_part(table.shape[0], lane)
    here = (places >= 0) & (places < rows.shape[0])
    return lane.total(torch.where(here[..., None], F.embedding(torch.where(here, places, 0), rows), 0.0))


def losses_of_part(
    scores: Float[Tensor, "chunk own"],
    targets: Int[Tensor, " chunk"],
    weights: Float[Tensor, " chunk"] | None,
    loss: LossConfig,
    vocab_size: int,
    lane: Lane,
) -> tuple[Float[Tensor, " chunk"], Float[Tensor, "chunk own"] | None]:
    """Losses as `losses.loss_from_total` has them, and the gradient of `sum(weights * losses)` by the own scores.

    `scores` are float32, of this rank's tokens; all ranks must have the same targets.
    """
    places = targets - lane.part * rows_of_a_part(vocab_size, lane)
    here = (places >= 0) & (places < scores.shape[1])
    own = scores.gather(1, torch.where(here, places, 0)[:, None]).squeeze(1)
    peak = lane.highest(scores.amax(-1))
    mass = torch.exp(scores - peak[:, None])
    # Three sums in one message.
    sums = lane.total(torch.stack((mass.sum(-1), torch.where(here, own, 0.0), scores.sum(-1))))
    log_total = peak + sums[0].log()
    found = log_total - sums[1]
    if loss.label_smoothing:
        found = torch.lerp(found, log_total - sums[2] / vocab_size, loss.label_smoothing)
    if loss.z_loss:
        found = found + loss.z_loss * log_total.square()
    losses = torch.where(targets != IGNORE, found, 0.0)
    if weights is None:
        return losses, None
    hit = torch.arange(scores.shape[1], device=scores.device) == places[:, None]
    wanted = (1 - loss.label_smoothing) * hit.float() + loss.label_smoothing / vocab_size
    steeper = (1 + 2 * loss.z_loss * log_total)[:, None]
    scale = (weights * (targets != IGNORE))[:, None]
    return losses, (torch.exp(scores - log_total[:, None]) * steeper - wanted) * scale
