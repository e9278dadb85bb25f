"""A model and rows of preferences -> log-probabilities of answers; and how well the model tells good ones from bad.

    preference_loss    mean over pairs (KTO: judged answers) of the loss that is trained
    reward_margin      mean of beta times the better answer's gain over the reference, less the worse one's
    reward_accuracy    share of pairs with a margin above 0 (KTO: of answers on the right side of the baseline)

Invariant: a pair is one cluster of the standard errors; nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.models import Network, PreferenceRule, outcome
from groundup.parallel import shard
from groundup.tokens import Batch, Rows, ordered_batches

BATCH_TOKENS = 4096
Scored = tuple[Batch, Float[Tensor, "rows time"], Float[Tensor, "rows time"]]
"""A micro-batch with the log-probability (nats) and the tokens of each answer, by number of its segment."""


def scored_answers(model: Network, rows: Rows, max_rows: int = 0) -> Iterator[Scored]:
    """The answers of all rows, in order, or of the first `max_rows`; on the model's device, nothing dropped out."""
    device = shard.compute_device(model)
    was_training = model.training
    model.eval()
    try:
        for batch in ordered_batches(rows, max(1, BATCH_TOKENS // rows.context_length), max_rows):
            batch = batch.to(device)
            with torch.inference_mode():
                log_probabilities, lengths = model(**batch.inputs())
            yield batch, log_probabilities, lengths
    finally:
        model.train(was_training)


def measure_preferences(model: Network, rule: PreferenceRule, rows: Rows, max_rows: int = 0) -> dict[str, Metric]:
    """Loss, margin and accuracy by `rule` over all rows, or the first `max_rows`."""
    found = {name: ClusterRatio() for name in ("preference_loss", "reward_margin", "reward_accuracy")}
    for batch, log_probabilities, lengths in scored_answers(model, rows, max_rows):
        assert batch.groups is not None and batch.references is not None, "rows of preferences"
        judged = outcome(rule, log_probabilities, lengths, batch.targets, batch.groups, batch.references)
        losses, margins = judged.losses[judged.exists].cpu(), judged.margins[judged.exists].cpu()
        ones = np.ones(len(losses))
        for name, values in (
            ("preference_loss", losses),
            ("reward_margin", margins),
            ("reward_accuracy", (margins > 0).float()),
        ):
            found[name].add(values.double().numpy(), ones)
    return {name: ratio.metric() for name, ratio in found.items()}
