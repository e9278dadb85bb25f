"""A model with a label head and labelled rows -> predictions -> accuracy, F1, correlation, exact match.

    sequence   accuracy, macro_f1, micro_f1, matthews          number   mse, pearson, spearman
    token      the same over words                             span     exact_match, f1 (SQuAD's rules)

Standard errors are over texts where a figure is a mean over them, else None. Invariant: every example counts, also one
that was cut; a word that was cut away counts as labelled wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.evaluate import label_metrics
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.models import Labeller
from groundup.tokens import PackedExamples, Tokenizer, collate

BATCH_ROWS = 16
LONGEST_ANSWER_TOKENS = 30
"""A span of more tokens is no answer, as in BERT's own evaluation."""


@dataclass(frozen=True)
class Labelled:
    """Metrics, and the prediction of each example."""

    metrics: dict[str, Metric]
    predictions: list[Any]


@torch.inference_mode()
def measure_labels(model: Labeller, examples: PackedExamples, tokenizer: Tokenizer, max_rows: int = 0) -> Labelled:
    """Predict every example (of the first `max_rows` rows; 0: all) and compare with what is right."""
    expected = examples.expected()
    predictions: dict[int, Any] = {}
    rows = min(max_rows or examples.num_rows, examples.num_rows)
    device = next(model.parameters()).device
    for start in range(0, rows, BATCH_ROWS):
        numbers = range(start, min(start + BATCH_ROWS, rows))
        batch = collate([examples.row(index) for index in numbers], [0] * len(numbers)).to(device)
        scores = model(**batch.inputs())
        assert isinstance(scores, Tensor), "without targets a model gives scores"
        scores, segments = scores.float().cpu(), batch.segments.cpu()
        tokens, targets = batch.tokens.cpu(), batch.token_targets.cpu()
        for at, index in enumerate(numbers):
            for place, number in examples.places(index):
                own = segments[at] == segments[at, place]
                predictions[number] = _predicted(examples, scores[at], (own, targets[at], tokens[at]), place, tokenizer)
    chosen = sorted(predictions)
    found = [predictions[number] for number in chosen]
    return Labelled(_metrics(examples, found, [expected[number] for number in chosen]), found)


def _predicted(
    examples: PackedExamples, scores: Tensor, row: tuple[Tensor, Tensor, Tensor], place: int, tokenizer: Tokenizer
) -> Any:
    """Label, number, labels of the words or text of the span of the example whose [CLS] is at `place`."""
    own, targets, tokens = row
    if examples.kind == "sequence":
        return examples.labels[int(scores[place].argmax())]
    if examples.kind == "number":
        return float(scores[place, 0])
    if examples.kind == "token":
        words = torch.nonzero(own & (targets >= 0)).flatten()
        return [examples.labels[label] for label in scores[words].argmax(-1).tolist()]
    return _span(scores, own, tokens, place, tokenizer)


def _span(scores: Tensor, own: Tensor, tokens: Tensor, place: int, tokenizer: Tokenizer) -> str:
    """The best span of the text, or "" when the one at [CLS] is as good: the text has no answer then."""
    sep = tokenizer.need_encoder_ids().sep
    inside = torch.nonzero(own).flatten()
    ends = inside[tokens[inside] == sep].tolist()
    first, stop = (ends[0] + 1, ends[1]) if len(ends) > 1 else (place + 1, int(inside[-1]))
    if stop <= first:
        return ""
    pairs = scores[first:stop, 0][:, None] + scores[first:stop, 1][None]
    length = stop - first
    allowed = torch.ones(length, length, dtype=torch.bool).triu() & torch.ones(length, length, dtype=torch.bool).tril(
        LONGEST_ANSWER_TOKENS - 1
    )
    best = int(pairs.masked_fill(~allowed, -math.inf).argmax())
    start, end = divmod(best, length)
    if float(scores[place, 0] + scores[place, 1]) >= float(pairs[start, end]):
        return ""
    return tokenizer.decode(tokens[first + start : first + end + 1].tolist()).strip()


def _metrics(examples: PackedExamples, predicted: Sequence[Any], expected: Sequence[Any]) -> dict[str, Metric]:
    if examples.kind == "number":
        errors = (np.asarray(predicted) - np.asarray(expected)) ** 2
        plain = {"pearson": label_metrics.pearson, "spearman": label_metrics.spearman}
        correlations = {name: Metric(rule(predicted, expected), None, len(predicted)) for name, rule in plain.items()}
        return {"mse": _mean(errors), **correlations}
    if examples.kind == "span":
        rules = {"exact_match": label_metrics.squad_exact, "f1": label_metrics.squad_f1}
        return {name: _mean([rule(p, e) for p, e in zip(predicted, expected)]) for name, rule in rules.items()}
    if examples.kind == "sequence":
        predicted, expected = [[each] for each in predicted], [[each] for each in expected]
    return _of_labels(examples.labels, predicted, expected)


def _of_labels(
    labels: Sequence[str], predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, Metric]:
    numbers = {label: index for index, label in enumerate(labels)}
    accuracy = ClusterRatio()
    said, right = list[int](), list[int]()
    for one, other in zip(predicted, expected):
        accuracy.add([sum(a == b for a, b in zip(one, other))], [len(other)])
        # A word that was cut away has no prediction: it counts as another label than the right one.
        padded = [numbers[label] for label in one]
        wanted = [numbers[label] for label in other]
        padded += [(label + 1) % len(labels) for label in wanted[len(padded) :]]
        said, right = said + padded, right + wanted
    counts = label_metrics.confusion(said, right, len(labels))
    found = {"accuracy": accuracy.metric()}
    for name, value in (
        ("macro_f1", label_metrics.macro_f1(counts)),
        ("micro_f1", label_metrics.micro_f1(counts)),
        ("matthews", label_metrics.matthews(counts)),
    ):
        found[name] = Metric(value, None, len(right))
    for label, value in zip(labels, label_metrics.f1_by_label(counts).tolist()):
        found[f"f1/{label}"] = Metric(value, None, int(counts[numbers[label]].sum()))
    return found


def _mean(values: Any) -> Metric:
    ratio = ClusterRatio()
    ratio.add(values, np.ones(len(values)))
    return ratio.metric()
