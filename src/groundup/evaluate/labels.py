"""A model with a label head and labelled rows -> predictions -> accuracy, F1, correlation, exact match.

    sequence   accuracy, macro_f1, micro_f1, matthews          number   mse, pearson, spearman
    multilabel exact_match, macro_f1, micro_f1
    token      the same over words; of entities                span     exact_match, f1 (SQuAD's rules); of Chinese
               entity_f1, entity_macro_f1 (as seqeval)                  answers cmrc_exact_match, cmrc_f1 too

Standard errors are over texts where a figure is a mean over them, else None. Invariant: every example whose windows
were all seen counts, also one that was cut, and is read as `predict` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.evaluate import label_metrics
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.evaluate.scores import cmrc, squad
from groundup.inference import (
    Answers,
    LabelPrediction,
    LabelsPrediction,
    NumberPrediction,
    Prediction,
    WordsPrediction,
    entities,
    spells_entities,
)
from groundup.models import IGNORE, Labeller, LossConfig
from groundup.parallel import shard
from groundup.tokens import Example, PackedExamples, Tokenizer, collate

BATCH_ROWS = 16
LOSS = "loss"


@dataclass(frozen=True)
class Labelled:
    """Metrics, and what was said of each example."""

    metrics: dict[str, Metric]
    predictions: list[Any]


def measure_labels(model: Labeller, examples: PackedExamples, tokenizer: Tokenizer, max_rows: int = 0) -> Labelled:
    """Predict every example (in the first `max_rows` rows; 0: all) and compare with what is right."""
    with shard.gathered_for_reading(model):
        return _measure(model, examples, tokenizer, max_rows)


def _measure(model: Labeller, examples: PackedExamples, tokenizer: Tokenizer, max_rows: int) -> Labelled:
    answers, seen, loss = Answers(model.config, tokenizer), dict[int, int](), ClusterRatio()
    rows = min(max_rows or examples.num_rows, examples.num_rows)
    device = shard.compute_device(model)
    for start in range(0, rows, BATCH_ROWS):
        numbers = range(start, min(start + BATCH_ROWS, rows))
        batch = collate([examples.row(index) for index in numbers], [0] * len(numbers)).to(device)
        scores = model(**batch.inputs())
        assert isinstance(scores, Tensor), "without targets a model gives scores"
        sums, counts = model.losses(scores, batch.targets, batch.segments, LossConfig())
        loss.add(sums.reshape(len(numbers), -1).sum(1).cpu().numpy(), counts.reshape(len(numbers), -1)[:, 0].cpu())
        scores, segments = scores.float().cpu(), batch.segments.cpu()
        tokens, targets = batch.tokens.cpu(), batch.token_targets.cpu()
        for at, index in enumerate(numbers):
            for place, number, first in examples.places(index):
                own = segments[at] == segments[at, place]
                words = torch.nonzero(targets[at][own] != IGNORE).flatten().tolist()
                answers.add(number, first, scores[at][own], tokens[at][own], words)
                seen[number] = seen.get(number, 0) + 1
    whole = [(number, each) for number, each in enumerate(examples.examples()) if seen.get(number) == each["windows"]]
    found = [_plain(answers.of(number, _asked(each, examples.kind))) for number, each in whole]
    metrics = _metrics(examples, found, [each["expected"] for _, each in whole])
    return Labelled({LOSS: loss.metric(), **metrics}, found)


def _asked(kept: Mapping[str, Any], kind: str) -> Example:
    words = tuple(kept["expected"]) if kind == "token" else ()  # as many as there are words
    return Example(kept["id"], kept.get("text", ""), words=words)


def _plain(found: Prediction) -> Any:
    """Label or labels, number, labels of the words or text of the span."""
    if isinstance(found, LabelPrediction):
        return found.label
    if isinstance(found, LabelsPrediction):
        return list(found.labels)
    if isinstance(found, NumberPrediction):
        return found.number
    return list(found.labels) if isinstance(found, WordsPrediction) else found.answer


def _metrics(examples: PackedExamples, predicted: Sequence[Any], expected: Sequence[Any]) -> dict[str, Metric]:
    if examples.kind == "number":
        errors = (np.asarray(predicted) - np.asarray(expected)) ** 2
        plain = {"pearson": label_metrics.pearson, "spearman": label_metrics.spearman}
        correlations = {name: Metric(rule(predicted, expected), None, len(predicted)) for name, rule in plain.items()}
        return {"mse": _mean(errors), **correlations}
    if examples.kind == "span":
        return _of_spans(predicted, expected)
    if examples.kind == "multilabel":
        return _of_label_sets(examples.labels, predicted, expected)
    if examples.kind == "sequence":
        return _of_labels(examples.labels, [[each] for each in predicted], [[each] for each in expected])
    of_words = _of_labels(examples.labels, predicted, expected)
    return {**of_words, **_of_entities(predicted, expected)} if spells_entities(examples.labels) else of_words


def _of_spans(predicted: Sequence[str], expected: Sequence[Sequence[str]]) -> dict[str, Metric]:
    """The best over the right answers, by the rules of SQuAD, and of CMRC too where answers are in Chinese."""
    rules: dict[str, Callable[[str, str], float]] = {"exact_match": squad.exact_match, "f1": squad.f1}
    if any(cmrc.is_chinese(answer) for answers in expected for answer in answers):
        rules |= {"cmrc_exact_match": cmrc.exact_match, "cmrc_f1": cmrc.f1}
    asked = [(said, answers or [""]) for said, answers in zip(predicted, expected)]
    return {
        name: _mean([max(rule(said, answer) for answer in answers) for said, answers in asked])
        for name, rule in rules.items()
    }


def _of_labels(
    labels: Sequence[str], predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, Metric]:
    numbers = {label: index for index, label in enumerate(labels)}
    accuracy = ClusterRatio()
    accuracy.add([sum(a == b for a, b in zip(*each)) for each in zip(predicted, expected)], [len(e) for e in expected])
    said, right = ([numbers[label] for each in side for label in each] for side in (predicted, expected))
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


def _of_label_sets(
    labels: Sequence[str], predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, Metric]:
    """All labels of a text right, and none beside them; F1 of the labels by themselves."""
    said, right = (label_metrics.indicators(side, labels) for side in (predicted, expected))
    hits, totals = (said & right).sum(0), said.sum(0) + right.sum(0)
    by_label = label_metrics.f1_of_counts(hits, totals)
    found = {"exact_match": _mean((said == right).all(1))}
    found["macro_f1"] = Metric(label_metrics.mean_where(by_label, totals > 0), None, len(right))
    found["micro_f1"] = Metric(float(label_metrics.f1_of_counts(hits.sum(), totals.sum())), None, len(right))
    counts = right.sum(0).tolist()
    return found | {f"f1/{label}": Metric(f1, None, n) for label, f1, n in zip(labels, by_label.tolist(), counts)}


def _of_entities(predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> dict[str, Metric]:
    """Whole entities, kind and borders right; n: entities that were expected."""
    said, right = (
        {(text, *entity) for text, labels in enumerate(side) for entity in entities(labels)}
        for side in (predicted, expected)
    )
    by_kind = label_metrics.f1_by_kind(said, right)
    hits, total = len(said & right), len(right)
    found = {
        "entity_f1": 2 * hits / max(len(said) + total, 1),
        "entity_macro_f1": sum(by_kind.values()) / max(len(by_kind), 1),
        "entity_precision": hits / max(len(said), 1),
        "entity_recall": hits / max(total, 1),
    }
    metrics = {name: Metric(value, None, total) for name, value in found.items()}
    counts = {kind: sum(entity[1] == kind for entity in right) for kind in by_kind}
    return metrics | {f"entity_f1/{kind}": Metric(value, None, counts[kind]) for kind, value in by_kind.items()}


def _mean(values: Any) -> Metric:
    ratio = ClusterRatio()
    ratio.add(values, np.ones(len(values)))
    return ratio.metric()
