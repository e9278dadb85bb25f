"""Held-out conversations, packed as for training -> how good the answers are, conversation by conversation.

    rows -> logits -> nats of every target (the end of a turn too) -> sums per conversation       answer_sums
    rows -> examples -> prompt ids -> greedy answer -> equal to the last turn?                    answer_matches

Both give one (sum, weight) per conversation, in order, so that two models can be compared conversation by conversation.
The rows hold what training learns from, so whatever template made them, this is asked of the model and no other thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from groundup.evaluate.answers import exact_match
from groundup.evaluate.language import BATCH_LOGITS, BATCH_TOKENS, text_bytes
from groundup.inference import GenerateConfig, generate_batch
from groundup.models import CausalNetwork, Network
from groundup.parallel import shard
from groundup.tokens import IGNORE, Encoded, Rows, Tokenizer, examples_of, ordered_batches

Scores = list[tuple[float, float]]
"""(sum, weight) of each conversation; the quality of several is the ratio of their sums."""


@torch.inference_mode()
def answer_sums(model: Network, rows: Rows, tokenizer: Tokenizer) -> Scores:
    """(bits, bytes) of the answers of each conversation, in the order of rows and places; their ratio is bits per byte.

    A conversation whose answers have no byte is left out.
    """
    device = shard.compute_device(model)
    n_bytes = text_bytes(tokenizer).to(device)
    batch_tokens = min(BATCH_TOKENS, BATCH_LOGITS // tokenizer.vocab_size)
    found: Scores = []
    for batch in ordered_batches(rows, max(1, batch_tokens // rows.context_length)):
        batch = batch.to(device)
        logits = model(**batch.inputs())
        for row, targets, segments in zip(logits, batch.targets, batch.segments):
            nats = functional.cross_entropy(row.float(), targets, ignore_index=IGNORE, reduction="none")
            sizes = n_bytes[targets.clamp(min=0)] * (targets != IGNORE)
            places = segments.cpu().numpy()
            bits = np.bincount(places, weights=nats.double().cpu().numpy()) / math.log(2)
            total = np.bincount(places, weights=sizes.double().cpu().numpy())
            found += [(float(b), float(t)) for b, t in zip(bits, total) if t > 0]
    return found


def answer_matches(
    model: CausalNetwork, rows: Rows, tokenizer: Tokenizer, max_new_tokens: int, batch_rows: int
) -> Scores:
    """(1 or 0, 1) for each conversation: whether its last answer is said word for word (`exact_match`)."""
    asked = [_last_turn(example) for example in _examples(rows)]
    fitting = [index for index, (prompt, _) in enumerate(asked) if len(prompt) < rows.context_length]
    prompts = [asked[index][0] for index in fitting]
    generation = GenerateConfig(max_new_tokens=max_new_tokens)
    said = dict(zip(fitting, generate_batch(model, prompts, generation, tokenizer.stop_ids, batch_rows)))
    return [
        (exact_match(tokenizer.decode(said.get(index, [])).strip(), tokenizer.decode(expected).strip()), 1.0)
        for index, (_, expected) in enumerate(asked)
    ]


def _examples(rows: Rows) -> Iterator[Encoded]:
    for index in range(rows.num_rows):
        yield from examples_of(rows.row(index))


def _last_turn(example: Encoded) -> tuple[list[int], list[int]]:
    """(ids before the last run of targets, the ids of that run)."""
    start = len(example.ids)
    while start and example.is_target[start - 1]:
        start -= 1
    return example.ids[:start], example.ids[start:]
