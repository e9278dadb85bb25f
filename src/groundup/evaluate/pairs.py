"""Held-out pairs of texts -> how often an encoder tells whether the second follows the first.

Invariant: the pairs are those of validation, the same every time; models without such a head are left alone.
"""

from __future__ import annotations

import numpy as np
import torch

from groundup.evaluate.metrics import ClusterRatio
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.models import Encoder
from groundup.parallel import shard
from groundup.tokens import IGNORE, NEXT_SENTENCE, ordered_batches

BATCH_TOKENS = 4096


@torch.inference_mode()
def measure_pairs(subject: Subject, config: EvaluateConfig) -> Result:
    """`next_sentence_accuracy` over the pairs of the headline text."""
    model, rows = subject.model, next(iter(subject.texts.values()))
    if not isinstance(model, Encoder) or model.next_sentence is None:
        return Result()
    device = shard.compute_device(model)
    right = ClusterRatio()
    for batch in ordered_batches(rows, max(1, BATCH_TOKENS // rows.context_length), config.max_rows):
        batch = batch.to(device)
        labels = batch.targets[:, 1]
        hits = (model.pair_scores(**batch.inputs()).argmax(-1) == labels) & (labels != IGNORE)
        right.add(hits.sum(1).cpu().numpy(), (labels != IGNORE).sum(1).cpu().numpy().astype(np.float64))
    return Result({f"{NEXT_SENTENCE}_accuracy": right.metric()})
