"""Result sections of the page: metrics side by side, answers and continuations, costs of each stage, events.

Invariant: as in `data`, whatever the files hold gives a page.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from groundup.report import words
from groundup.report.charts import bar
from groundup.report.facts import HEADLINE_METRICS, LABELS, Facts, with_error
from groundup.report.plain import entries, mapping
from groundup.report.read import RunFiles
from groundup.report.words import number

EVENT_ROWS = 100
METRIC_WORDS = {
    "accuracy": ("Accuracy", "labels that are right", "labels"),
    "macro_f1": ("Macro F1", "mean of the F1 of all labels", "labels"),
    "entity_f1": ("Entity F1", "entities whose kind and borders are right", "entities"),
    "pearson": ("Pearson", "correlation of the numbers", "numbers"),
    "mse": ("Squared error", "mean over the numbers; lower is better", "numbers"),
    "exact_match": ("Exact match", "answers equal to the expected one", "questions"),
    "f1": ("F1", "words in common with the expected answer", "questions"),
    "bits_per_byte": ("Bits per byte", "surprise per byte of text; lower is better", "bytes"),
    "perplexity": ("Perplexity", "choices per token it hesitates between; lower is better", "tokens"),
    "token_accuracy": ("Token accuracy", "next token guessed right", "tokens"),
}
"""Metric -> (name, meaning, what its n counts)."""
ANSWER_ROWS = 12
GROUP_ROWS = 40
GROUP_METRICS = ("accuracy", "entity_f1", "exact_match", "bits_per_byte")
STAGE_WORDS = {
    "corpus": "read, clean, deduplicate, split",
    "contamination": "look for evaluation texts in the training text",
    "tokenizer": "learn the vocabulary",
    "fertility": "count the tokens that text needs",
    "shards": "text to tokens on disk",
    "conversations": "questions and answers to tokens",
    "questions": "keep the held-out questions",
    "pretrain": "learn the language",
    "lambda": "try how much the answers should weigh",
    "instruct": "learn to answer",
    "comparisons": "better and worse answers to tokens",
    "reference": "how probable the answers were before",
    "preferences": "learn which answers are better",
    "evaluate": "measure on held-out text and questions",
    "export": "write the Hugging Face folder",
}


def evaluation(facts: Facts, benchmarks: Collection[str] = ()) -> dict[str, Any]:
    """Metrics side by side: before and after each tuning, overall and per group, but for those of benchmarks."""
    labels = list(facts.metrics)
    found = dict.fromkeys(name for label in labels for name in facts.metrics[label])
    names = [name for name in found if name.partition("/")[0] not in benchmarks]
    first = [name for name in HEADLINE_METRICS if name in names]
    rest = [name for name in names if name not in first and _tells_more(name, names)]
    return {
        "labels": [LABELS.get(label, words.name(label)) for label in labels],
        "metrics": [_metric_row(name, labels, facts) for name in first],
        "groups": [_metric_row(name, labels, facts) for name in sorted(rest, key=_group_order)[:GROUP_ROWS]],
        "more": max(len(rest) - GROUP_ROWS, 0),
    }


def _tells_more(name: str, names: Sequence[str]) -> bool:
    """One metric a group is enough, and the first text's figures are the headline's already."""
    metric, _, group = name.partition("/")
    if metric == "bits_per_token":  # perplexity in other words
        return False
    if metric not in HEADLINE_METRICS:
        return True
    return metric in GROUP_METRICS and not (metric == "bits_per_byte" and "/" not in group and metric in names)


def _group_order(name: str) -> tuple[str, int]:
    metric, _, group = name.partition("/")
    return group, HEADLINE_METRICS.index(metric) if metric in HEADLINE_METRICS else len(HEADLINE_METRICS)


def _metric_row(name: str, labels: Sequence[str], facts: Facts) -> dict[str, Any]:
    metric, _, group = name.partition("/")
    entries = [facts.metrics[label].get(name) for label in labels]
    values = [with_error(name, entry) if entry else words.MISSING for entry in entries]
    known = [entry for entry in entries if entry]
    share = number(known[-1]["value"]) if known and metric.endswith(words.PERCENT_ENDINGS) else None
    title, meaning, unit = METRIC_WORDS.get(metric, (words.name(metric), "", ""))
    return {
        "metric": title,
        "meaning": meaning,
        "group": group.replace("_", " "),
        "values": values,
        "n": f"{words.exact(known[-1].get('n'))} {unit}" if known else words.MISSING,
        "bar": Markup("") if share is None else bar([(share, "kept")], 1.0),
    }


def samples(run: RunFiles) -> dict[str, Any]:
    """Answers (a spread of all, and wrong ones) and continuations, of both models side by side."""
    labels = sorted(run.samples, key=lambda label: (label != "base", label))
    answers = _joined(run.samples, labels, "answers", ("prompt", "reference"), "prediction")
    shown = _spread(answers, ANSWER_ROWS)
    wrong = [answer for answer in answers if answer["right"][-1] is False]
    more_wrong = [answer for answer in wrong if answer not in shown]
    return {
        "labels": [LABELS.get(label, words.name(label)) for label in labels],
        "answers": shown,
        "wrong": _spread(more_wrong, ANSWER_ROWS),
        "asked": words.exact(len(answers)),
        "wrong_in_all": words.exact(len(wrong)),
        "continuations": _joined(run.samples, labels, "continuations", ("prompt",), "continuation")[:ANSWER_ROWS],
    }


def _joined(
    samples: Mapping[str, Any], labels: Sequence[str], kind: str, keys: tuple[str, ...], said: str
) -> list[dict[str, Any]]:
    """Samples of one kind of all labels, joined by their keys, in the order of the last label."""
    joined: dict[tuple[str, ...], dict[str, Any]] = {}
    for at, label in enumerate(labels):
        for sample in entries(mapping(samples.get(label)).get(kind)):
            key = tuple(str(sample.get(name, "")) for name in keys)
            entry = joined.setdefault(
                key, {**dict(zip(keys, key)), "said": [""] * len(labels), "right": [None] * len(labels)}
            )
            entry["said"][at] = str(sample.get(said, ""))
            if number(sample.get("exact_match")) is not None:
                entry["right"][at] = number(sample["exact_match"]) == 1.0
    return list(joined.values())


def _spread(items: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    return [items[i * len(items) // limit] for i in range(limit)] if len(items) > limit else list(items)


def costs(run: RunFiles, facts: Facts) -> list[dict[str, Any]]:
    """Time and memory of each stage, with what it is for."""
    total = sum(facts.seconds.values())
    return [
        {
            "name": stage.name,
            "purpose": STAGE_WORDS.get(stage.name, ""),
            "state": stage.state,
            "seconds": words.duration(stage.seconds),
            "share": words.percent(stage.seconds / total, 0) if stage.seconds and total else words.MISSING,
            "memory": words.size(facts.peak_memory_bytes.get(stage.name)),
            "bar": bar([(stage.seconds or 0.0, "kept")], total),
        }
        for stage in run.stages
    ]


def events(run: RunFiles) -> dict[str, Any]:
    """What happened, checkpoints only counted."""
    routine = [event for event in run.events if event.get("event") == "checkpoint_saved"]
    others = [event for event in run.events if event.get("event") != "checkpoint_saved"]
    rows = []
    for event in others[:EVENT_ROWS]:
        details = {key: value for key, value in event.items() if key not in ("event", "time", "phase", "step")}
        rows.append(
            {
                "time": str(event.get("time", "")),
                "event": words.name(str(event.get("event", "?"))),
                "phase": str(event.get("phase", "")),
                "step": words.exact(event.get("step")),
                "details": "; ".join(f"{name}: {value}" for name, value in words.pairs(details)),
            }
        )
    return {"checkpoints": len(routine), "rows": rows, "more": max(len(others) - EVENT_ROWS, 0)}
