"""Held-out text -> bits per byte, perplexity and token accuracy, each with its standard error.

    rows in order -> logits -> per target: nats, right or wrong, bytes -> sums per row and per document -> ratios

Counted are the targets that stand for text. The end of a document is predicted too, but it has no bytes and is left out
of all three figures, as lm-evaluation-harness and nanochat leave it out: bits per byte = nats of the text's tokens /
(ln 2 * bytes of the same tokens). Standard errors are those of a ratio over clusters: documents where the text has at
least `MIN_DOCUMENTS` of them, else rows (windows of context_length tokens), and `clusters` says which.
Of an encoder, what is counted are the masked tokens (the same ones every time): its bits per byte are over their bytes,
each seen with the text around it, so they are pseudo-likelihoods and not to be set against a decoder's. With WordPiece,
which changes text, the bytes are not known, and bits per byte is not a number.
Invariant: memory does not grow with the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from groundup.errors import DataError
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.log import progress
from groundup.models import Network, RowContext, RowPart
from groundup.parallel import shard
from groundup.tokens import IGNORE, Batch, Rows, Tokenizer, ordered_batches

MIN_DOCUMENTS = 30
BATCH_TOKENS = 4096
BATCH_LOGITS = 1 << 24
"""At most this many logits at a time, so that a large vocabulary does not need much memory (one row in any case)."""


@dataclass
class TextMeasure:
    """Sums over one text; `add` takes one micro-batch, in order."""

    lossless: bool = True
    """Whether the bytes of tokens are those of the text; else nothing is said per byte."""
    nats_per_byte: dict[str, ClusterRatio] = field(default_factory=lambda: _by_cluster())
    nats_per_token: dict[str, ClusterRatio] = field(default_factory=lambda: _by_cluster())
    right_per_token: dict[str, ClusterRatio] = field(default_factory=lambda: _by_cluster())
    _open_document: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(4))

    def add(self, sums: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> None:
        """Count targets: `sums` Float64 [4, rows, time] holds nats, right, tokens and bytes of each (0: not counted);
        `starts` Bool [rows, time] is true where a document starts.
        """
        self._count("rows", sums.sum(axis=2))
        document = np.cumsum(starts.ravel())
        per_document = np.zeros((4, int(document[-1]) + 1))
        for kind in range(4):
            per_document[kind] = np.bincount(document, weights=sums[kind].ravel(), minlength=per_document.shape[1])
        per_document[:, 0] += self._open_document
        self._open_document = per_document[:, -1]
        self._count("documents", per_document[:, :-1])

    def close(self) -> None:
        """Count the last document, which no other follows."""
        self._count("documents", self._open_document[:, None])
        self._open_document = np.zeros(4)

    def _count(self, cluster: str, sums: np.ndarray[Any, Any]) -> None:
        nats, right, tokens, n_bytes = sums
        self.nats_per_byte[cluster].add(nats, n_bytes)
        self.nats_per_token[cluster].add(nats, tokens)
        self.right_per_token[cluster].add(right, tokens)

    @property
    def clusters(self) -> str:
        """What the standard errors are over: documents or rows."""
        return "documents" if self.nats_per_token["documents"].clusters >= MIN_DOCUMENTS else "rows"

    def metrics(self) -> dict[str, Metric]:
        """bits_per_byte (n: bytes), perplexity, token_accuracy and bits_per_token (n: tokens)."""
        loss = self.nats_per_token[self.clusters].metric()
        perplexity = math.exp(min(loss.value, 700.0))
        per_byte = self.nats_per_byte[self.clusters].metric(1 / math.log(2))
        return {
            "bits_per_byte": per_byte if self.lossless else Metric(math.nan, None, 0),
            "perplexity": Metric(perplexity, None if loss.stderr is None else perplexity * loss.stderr, loss.n),
            "token_accuracy": self.right_per_token[self.clusters].metric(),
            "bits_per_token": self.nats_per_token[self.clusters].metric(1 / math.log(2)),
        }

    def summary(self) -> dict[str, Any]:
        """What validation during training logs: bits_per_byte and its error, loss (nats a token), n_bytes and so on."""
        bits = self.metrics()["bits_per_byte"]
        return {
            "bits_per_byte": bits.value if self.lossless else None,
            "bits_per_byte_stderr": bits.stderr,
            "loss": self.nats_per_token["rows"].value,
            "token_accuracy": self.right_per_token["rows"].value,
            "n_bytes": bits.n,
            "n_tokens": self.nats_per_token["rows"].metric().n,
            "n_documents": self.nats_per_token["documents"].clusters,
            "clusters": self.clusters,
        }


def _by_cluster() -> dict[str, ClusterRatio]:
    return {"rows": ClusterRatio(), "documents": ClusterRatio()}


def measure_text(
    model: Network,
    rows: Rows,
    tokenizer: Tokenizer,
    max_rows: int = 0,
    advance: Callable[[int], None] | None = None,
    carry_states: bool = False,
) -> TextMeasure:
    """Run `model` over the rows of a text, in order and in the model's compute dtype.

    `max_rows`: only that many from the start (0: all). `advance(n)` is called after n more rows. `carry_states`: what
    the model carries goes from row to row, one row at a time; else each row starts afresh. Raises DataError when no row
    predicts any text.
    """
    device = shard.compute_device(model)
    n_bytes = text_bytes(tokenizer).to(device)
    measure = TextMeasure(tokenizer.lossless)
    batch_tokens = min(BATCH_TOKENS, BATCH_LOGITS // tokenizer.vocab_size)
    memory = model.memory(1, device) if carry_states else {}
    rows_at_once = 1 if memory else max(1, batch_tokens // rows.context_length)
    with shard.gathered_for_reading(model):
        for index, batch in enumerate(ordered_batches(rows, rows_at_once, max_rows)):
            batch = batch.to(device)
            context = RowContext(memory=memory, continues=torch.tensor([index > 0], device=device)) if memory else None
            sums = target_sums(model, batch, n_bytes, context).double().cpu().numpy()
            measure.add(sums, (batch.tokens == tokenizer.document_start_id).cpu().numpy())
            if advance:
                advance(batch.tokens.shape[0])
    measure.close()
    if measure.nats_per_byte["rows"].denominator == 0:
        raise DataError(f"text '{rows.name}': no text token to predict in {rows.num_rows} rows; give a longer text")
    return measure


def text_bytes(tokenizer: Tokenizer) -> Int[Tensor, " vocab"]:
    """UTF-8 bytes that each token stands for; 0 for control tokens."""
    ids = range(tokenizer.vocab_size)
    lengths = [0 if token in tokenizer.control_ids else len(tokenizer.token_bytes(token)) for token in ids]
    return torch.tensor(lengths, dtype=torch.int64)


def target_sums(
    model: Network, batch: Batch, n_bytes: Int[Tensor, " vocab"], context: RowContext | None = None
) -> Float[Tensor, "4 rows time"]:
    """Nats, right (1 or 0), tokens (1) and bytes of every target that stands for text; 0 for all others.

    To be called where no gradients are kept; where ranks share the rows, by all of them, with the same rows.
    """
    part = RowPart.of(model.line, batch.segments)
    if part is not None:
        batch, context = batch.columns(part.columns), replace(context or RowContext(), part=part)
    logits = model(**batch.inputs(), context=context)
    targets = batch.token_targets.clamp(min=0)
    counted = ((batch.token_targets != IGNORE) & (n_bytes[targets] > 0)).float()
    # Row by row: the copies that cross-entropy makes of all logits would be the peak of an evaluation.
    nats = torch.stack([functional.cross_entropy(r.float(), t, reduction="none") for r, t in zip(logits, targets)])
    right = (logits.argmax(dim=-1) == targets).float()
    sums = torch.stack([nats * counted, right * counted, counted, n_bytes[targets] * counted])
    return sums if part is None else part.whole(sums, dim=2)


def measure_language(subject: Subject, config: EvaluateConfig) -> Result:
    """Every text -> its three metrics as `<metric>/<name>`; the first text's also under the plain names."""
    metrics: dict[str, Metric] = {}
    samples: dict[str, Any] = {}
    for name, rows in subject.texts.items():
        with progress(name, min(config.max_rows or rows.num_rows, rows.num_rows), "rows") as bar:
            measure = measure_text(
                subject.model, rows, subject.tokenizer, config.max_rows, bar.advance, config.carry_states
            )
        found = measure.metrics()
        if not metrics:
            metrics.update(found)
        metrics.update({f"{metric}/{name}": value for metric, value in found.items()})
        samples[name] = measure.summary()
    return Result(metrics, {"texts": samples})
