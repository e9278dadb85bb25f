"""What a later phase changed: the same text and questions before and after, differences with paired standard errors.

    model -> nats and bytes of each cluster of a text -> TextSums       TextSums, TextSums -> lost bits per byte

A document that is hard before is hard after, so the difference of two models over the same documents is known far
better than either figure: its standard error is that of a ratio over clusters whose numerators are the differences.
Where nothing pairs two figures (means over groups of questions) they are taken as independent, which overstates it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.evaluate.language import BATCH_LOGITS, BATCH_TOKENS, MIN_DOCUMENTS, target_sums, text_bytes
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.models import Network
from groundup.parallel import shard
from groundup.tokens import Rows, Tokenizer, ordered_batches

FORGETTING = "forgetting:"
"""Prefix, in evaluation.json, of what instruction tuning changed: after minus before."""
PAIRED_ANSWERS = ("exact_match", "f1")
"""Figures that each sampled answer has by itself."""
_Sums = NDArray[np.float64]


@dataclass(frozen=True)
class TextSums:
    """Sums over a text: Float64 [2, clusters] of nats and bytes, by row and by document."""

    rows: _Sums
    documents: _Sums

    @property
    def clusters(self) -> _Sums:
        """Documents where there are enough of them, else rows, as `bits_per_byte` has it."""
        return self.documents if self.documents.shape[1] >= MIN_DOCUMENTS else self.rows


def text_sums(model: Network, rows: Rows, tokenizer: Tokenizer, max_rows: int = 0) -> TextSums:
    """Run `model` over the rows of a text, each starting afresh (0: all rows); keeps 32 bytes per row."""
    device = shard.compute_device(model)
    n_bytes = text_bytes(tokenizer).to(device)
    batch_tokens = min(BATCH_TOKENS, BATCH_LOGITS // tokenizer.vocab_size)
    by_row: list[_Sums] = []
    by_document: list[_Sums] = [np.zeros((2, 1))]
    with shard.gathered_for_reading(model):
        for batch in ordered_batches(rows, max(1, batch_tokens // rows.context_length), max_rows):
            batch = batch.to(device)
            sums = target_sums(model, batch, n_bytes)[[0, 3]].double().cpu().numpy()
            by_row.append(sums.sum(axis=2))
            document = np.cumsum((batch.tokens == tokenizer.document_start_id).cpu().numpy().ravel())
            found: _Sums = np.stack([np.bincount(document, weights=kind.ravel()) for kind in sums]).astype(np.float64)
            by_document[-1][:, -1] += found[:, 0]
            if found.shape[1] > 1:
                by_document.append(found[:, 1:])
    return TextSums(np.concatenate(by_row, axis=1), np.concatenate(by_document, axis=1))


def lost_bits_per_byte(before: TextSums, after: TextSums) -> Metric:
    """Bits per byte after minus before, with the paired standard error."""
    (old, sizes), (new, _) = before.clusters, after.clusters
    ratio = ClusterRatio()
    ratio.add(new - old, sizes)
    return ratio.metric(1 / math.log(2))


def lost_share(before: TextSums, after: TextSums) -> Metric:
    """The same as a part of the bits per byte before: 0.02 is 2% worse. n: bytes."""
    (old, sizes), (new, _) = before.clusters, after.clusters
    ratio = ClusterRatio()
    ratio.add(new - old, old)
    return Metric(ratio.value, ratio.stderr, round(float(sizes.sum())))


def changes(
    before: Mapping[str, Metric],
    after: Mapping[str, Metric],
    texts: tuple[TextSums, TextSums],
    answers: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]] = ((), ()),
) -> dict[str, Metric]:
    """Every metric that both have, after minus before, as `forgetting:<metric>`; `texts` are of the headline text.

    Paired are `bits_per_byte` (also as a part of what it was, `bits_per_byte_share`), and `exact_match` and `f1` where
    every answer is at hand.
    """
    found = {name: _independent(before[name], after[name]) for name in after if name in before}
    if "bits_per_byte" in found and math.isfinite(found["bits_per_byte"].value):
        found["bits_per_byte"] = lost_bits_per_byte(*texts)
        found["bits_per_byte_share"] = lost_share(*texts)
    for name in PAIRED_ANSWERS:
        paired = _paired_answers(name, *answers)
        if paired is not None and name in found and paired.n == after[name].n:
            found[name] = paired
    return {f"{FORGETTING}{name}": metric for name, metric in sorted(found.items())}


def _independent(before: Metric, after: Metric) -> Metric:
    known = before.stderr is not None and after.stderr is not None
    error = math.hypot(before.stderr or 0.0, after.stderr or 0.0) if known else None
    return Metric(after.value - before.value, error, after.n)


def _paired_answers(
    name: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Metric | None:
    if len(before) != len(after) or not all(name in answer for answer in (*before, *after)):
        return None
    if any(old.get("prompt") != new.get("prompt") for old, new in zip(before, after)):
        return None
    ratio = ClusterRatio()
    ratio.add([float(new[name]) - float(old[name]) for old, new in zip(before, after)], np.ones(len(after)))
    return ratio.metric()
