"""Losses of preferences: log-probabilities of whole answers, beside those of a reference -> one loss a pair or answer.

    losses of tokens --by segment--> log p(answer) --minus the reference's--> ratio r
        dpo    -log sigmoid(beta (r+ - r-))                              a pair; arXiv 2305.18290, equation 7
        ipo    (r+/n+ - r-/n- - 1 / (2 beta))^2                          a pair; arXiv 2310.12036, equation 17
        orpo   -log p+/n+ - beta log sigmoid(log odds+ - log odds-)      a pair; arXiv 2403.07691, equation 6
        kto    weight (1 - sigmoid(+-beta (r - z)))                      an answer; arXiv 2402.01306, equation 8
               z = max(0, mean r of mismatched answers of the group)

What is known of an answer stands at the number of its segment: its group (the pair, or the answers that share a z), the
reference's log-probability, and as a target 1 (better, good) or 0 (bad) where the loss has a term of its own. Others of
a group have no target: the worse answer of a pair, the mismatched ones of KTO.

Invariant: all shapes are [rows, time], whatever the data; a row's sum depends on that row only.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from groundup.config import Config
from groundup.models.losses import IGNORE, LossConfig

_SURE = -1e-7
"""Largest mean log-probability of a token that odds are taken of; at 0 they would be infinite."""


class DPOConfig(Config):
    """Direct preference optimisation (Rafailov et al. 2023): a better answer is to gain more than a worse one."""

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    """How close the model is held to the reference: the larger, the closer."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs that are taken to be the wrong way round (conservative DPO)."""


class IPOConfig(Config):
    """Identity preference optimisation (Azar et al. 2023): a gain of a given size, per token, instead of ever more."""

    kind: Literal["ipo"] = "ipo"
    beta: float = Field(default=0.1, gt=0)
    """The gain aimed at is 1 / (2 beta) nats per token."""


class KTOConfig(Config):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024): single answers, each good or bad; pairs count as two."""

    kind: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    """How close the model is held to the reference: the larger, the closer."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """What a good answer counts."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """What a bad answer counts."""
    group_size: int = Field(default=8, ge=2)
    """At most so many answers, neighbours in the data, share the estimate of the distance to the reference."""


class ORPOConfig(Config):
    """Odds-ratio preference optimisation (Hong et al. 2024): learn the better answer, and its odds; no reference."""

    kind: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds beside the better answer's own loss; lambda in the paper."""


PreferenceRule = Annotated[DPOConfig | IPOConfig | KTOConfig | ORPOConfig, Field(discriminator="kind")]
"""Any loss of preferences, told apart by `kind`."""


class PreferenceLossConfig(LossConfig):
    """Plain cross-entropy, with a rule for rows of preferences. No recipe names it."""

    rule: PreferenceRule


class Outcome(NamedTuple):
    """One number for each pair or judged answer of a row, wherever in the row; 0 where `exists` is false."""

    losses: Float[Tensor, "rows time"]
    margins: Float[Tensor, "rows time"]
    """Reward of the better answer over the worse one's; KTO: over the baseline, on the right side of it."""
    exists: Bool[Tensor, "rows time"]


def sums_at(index: Int[Tensor, "rows time"], values: Float[Tensor, "rows time"]) -> Float[Tensor, "rows time"]:
    """Sums of a row's values by their `index` (0 to time - 1): at place i the sum of those with index i."""
    rows, time = values.shape
    first = torch.arange(rows, device=values.device)[:, None] * time
    found = torch.zeros(rows * time, dtype=values.dtype, device=values.device)
    return found.index_add(0, (index.long() + first).flatten(), values.flatten()).view(rows, time)


def answer_sums(
    losses: Float[Tensor, "rows time"], answers: Int[Tensor, "rows time"], segments: Int[Tensor, "rows time"]
) -> tuple[Float[Tensor, "rows time"], Float[Tensor, "rows time"]]:
    """Log-probability (nats) and tokens of each answer, at the number of its segment; 0 where there is none."""
    counted = (answers != IGNORE).to(losses.dtype)
    return -sums_at(segments, losses * counted), sums_at(segments, counted)


def outcome(
    rule: PreferenceRule,
    log_probabilities: Float[Tensor, "rows time"],
    lengths: Float[Tensor, "rows time"],
    targets: Int[Tensor, "rows time"],
    groups: Int[Tensor, "rows time"],
    references: Float[Tensor, "rows time"],
) -> Outcome:
    """Losses and margins by `rule`; all but the first two as in `Batch`, by number of the segment."""
    here = groups >= 0
    judged, others = here & (targets != IGNORE), here & (targets == IGNORE)
    group = groups.clamp(min=0)
    ratios = log_probabilities - references
    if isinstance(rule, KTOConfig):
        return _kto(rule, ratios, targets, group, judged, others)
    exists = sums_at(group, judged.float()) > 0

    def sides(values: Tensor, absent: float = 0.0) -> tuple[Tensor, Tensor]:
        better, worse = (sums_at(group, torch.where(side, values, 0.0)) for side in (judged, others))
        return torch.where(exists, better, absent), torch.where(exists, worse, absent)

    if isinstance(rule, ORPOConfig):
        better, worse = sides(log_probabilities / lengths.clamp(min=1), absent=-1.0)
        gain = rule.beta * F.logsigmoid(_log_odds(better) - _log_odds(worse))
        return _where(exists, -better - gain, rule.beta * (better - worse))
    better, worse = sides(ratios)
    margins = rule.beta * (better - worse)
    if isinstance(rule, DPOConfig):
        wrong = rule.label_smoothing
        return _where(exists, -(1 - wrong) * F.logsigmoid(margins) - wrong * F.logsigmoid(-margins), margins)
    # Per token, as the authors have it in their experiments; the sums of long answers would drown those of short ones.
    better_mean, worse_mean = sides(ratios / lengths.clamp(min=1))
    return _where(exists, (better_mean - worse_mean - 1 / (2 * rule.beta)).square(), margins)


def _where(exists: Tensor, losses: Tensor, margins: Tensor) -> Outcome:
    return Outcome(torch.where(exists, losses, 0.0), torch.where(exists, margins, 0.0), exists)


def _log_odds(log_probabilities: Tensor) -> Tensor:
    """log p - log(1 - p), exact for p near 0 and near 1."""
    x = log_probabilities.clamp(max=_SURE)
    return x - torch.where(x < -0.6931472, torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def _kto(rule: KTOConfig, ratios: Tensor, targets: Tensor, group: Tensor, judged: Tensor, others: Tensor) -> Outcome:
    mismatched = ratios.detach()
    sums, counts = sums_at(group, mismatched * others), sums_at(group, others.to(ratios.dtype))
    baseline = (sums / counts.clamp(min=1)).clamp(min=0).gather(1, group.long())
    good = targets == 1
    margins = rule.beta * torch.where(good, ratios - baseline, baseline - ratios)
    weights = torch.where(good, rule.desirable_weight, rule.undesirable_weight)
    return _where(judged, weights * (1 - torch.sigmoid(margins)), margins)
