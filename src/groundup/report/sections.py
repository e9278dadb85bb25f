"""What was read of a run -> the tables and charts of each section of the page, as plain values for the template.

Each function gives what one section shows, empty where the run has nothing for it; the template says so in place.
Invariant: counts and texts come from files and may be anything, so all are read through `words` and never trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from groundup.report import words
from groundup.report.charts import Chart, Series, bar, line_chart
from groundup.report.facts import HEADLINE_METRICS, LABELS, Facts, last, typical, with_error
from groundup.report.read import PhaseLines, RunFiles
from groundup.report.words import number

FILE_ROWS = 200
EVENT_ROWS = 100
ANSWER_ROWS = 12
GROUP_ROWS = 40
LOSS_SERIES = 6
STAGE_WORDS = {
    "corpus": "read, clean, deduplicate, split",
    "tokenizer": "learn the vocabulary",
    "shards": "text to tokens on disk",
    "conversations": "questions and answers to tokens",
    "pretrain": "learn the language",
    "instruct": "learn to answer",
    "evaluate": "measure on held-out text and questions",
    "export": "write the Hugging Face folder",
}


def mapping(value: Any) -> dict[str, Any]:
    """`value` when it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int:
    """A count from a file; a mapping of counts is summed; what is none counts as 0."""
    if isinstance(value, Mapping):
        return sum(count(item) for item in value.values())
    found = number(value)
    return 0 if found is None else int(found)


def named(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of {name: entry} or of [{"name": ..., ...}]."""
    if isinstance(value, Mapping):
        yield from ((str(name), mapping(entry)) for name, entry in value.items())
    elif isinstance(value, list):
        for entry in map(mapping, value):
            yield str(entry.get("name", entry.get("file", "?"))), entry


def corpus(run: RunFiles) -> dict[str, Any]:
    """Accounts per source and file, reasons with examples."""
    report = run.corpus
    if not report:
        return {}
    sources = [_account(name, entry) for name, entry in named(report.get("sources"))]
    files = [_account(name, entry) for name, entry in named(report.get("files"))]
    return {
        "all": _account("All sources", report),
        "sources": sources,
        "files": files[:FILE_ROWS],
        "more_files": max(len(files) - FILE_ROWS, 0),
        "reasons": _reasons(report),
        "splits": list(words.pairs(report.get("splits"))),
    }


def _account(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    duplicates = mapping(entry.get("duplicates"))
    exact, near = count(duplicates.get("exact")), count(duplicates.get("near"))
    total, kept = count(entry.get("total")), count(entry.get("kept"))
    rejected, filtered = count(entry.get("rejected")), count(entry.get("filtered"))
    parts = [(kept, "kept"), (exact + near, "duplicate"), (filtered, "filtered"), (rejected, "rejected")]
    return {
        "name": name,
        "format": str(entry.get("format", "")),
        "total": words.exact(total),
        "kept": words.exact(kept),
        "kept_share": words.percent(kept / total) if total else words.MISSING,
        "exact": words.exact(exact),
        "near": words.exact(near),
        "filtered": words.exact(filtered),
        "rejected": words.exact(rejected),
        "contaminated": words.exact(count(entry.get("contaminated"))),
        "bar": bar(parts, total),
    }


def _reasons(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each way of being dropped, the most frequent first, with its examples."""
    samples, total = mapping(report.get("samples")), count(report.get("total"))
    kinds = {"rejected": "not readable", "filtered": "filtered", "duplicates": "duplicate"}
    found = [
        (kind, str(reason), count(amount))
        for kind in kinds
        for reason, amount in mapping(report.get(kind)).items()
        if count(amount)
    ]
    return [
        {
            "kind": kinds[kind],
            "reason": reason,
            "count": words.exact(amount),
            "share": words.percent(amount / total) if total else words.MISSING,
            "examples": [mapping(example) for example in _list(mapping(samples.get(kind)).get(reason))[:3]],
        }
        for kind, reason, amount in sorted(found, key=lambda item: -item[2])
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def tokens(run: RunFiles) -> dict[str, Any]:
    """The vocabulary, the shards per split and source, and how densely conversations are packed."""
    shards = [
        {
            "split": str(split),
            "source": source,
            "documents": words.exact(entry.get("documents")),
            "tokens": words.exact(entry.get("tokens")),
            "bytes": words.size(entry.get("text_bytes")),
            "bytes_per_token": _ratio(entry.get("text_bytes"), entry.get("tokens")),
        }
        for split, sources in run.summary("shards").items()
        for source, entry in named(sources)
    ]
    train = mapping(run.summary("shards").get("train")).values()
    text_bytes = sum(count(mapping(entry).get("text_bytes")) for entry in train)
    train_tokens = sum(count(mapping(entry).get("tokens")) for entry in train)
    conversations = [
        _conversations(str(group), source, entry)
        for group, sources in run.summary("conversations").items()
        for source, entry in named(sources)
    ]
    return {
        "tokenizer": list(words.pairs(run.summary("tokenizer"))),
        "bytes_per_token": _ratio(text_bytes, train_tokens),
        "shards": shards,
        "conversations": conversations,
    }


def _ratio(above: Any, below: Any) -> str:
    top, bottom = number(above), number(below)
    return f"{top / bottom:.2f}" if top is not None and bottom else words.MISSING


def _conversations(group: str, source: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    padding, records = number(entry.get("padding_share")), mapping(entry.get("records"))
    dropped = count(entry.get("dropped_too_long"))
    reasons = [f"{reason}: {words.exact(amount)}" for reason, amount in mapping(records.get("rejected")).items()]
    return {
        "group": {"train": "trained on", "heldout": "held out"}.get(group, group),
        "source": source,
        "conversations": words.exact(entry.get("conversations")),
        "tokens": words.exact(entry.get("tokens")),
        "targets": words.exact(entry.get("targets")),
        "rows": words.exact(entry.get("rows")),
        "efficiency": words.percent(None if padding is None else 1 - padding),
        "truncated": words.exact(entry.get("truncated", 0)),
        "dropped": "; ".join([*([f"too long: {words.exact(dropped)}"] if dropped else []), *reasons]) or "none",
    }


def model(run: RunFiles, facts: Facts) -> list[tuple[str, str]]:
    """What the network is: its recipe, parameters and arithmetic."""
    rows = []
    if facts.parameters is not None:
        rows.append(("parameters", words.exact(facts.parameters)))
    if facts.flops_per_token is not None:
        rows.append(("FLOPs per token, forward and backward", words.compact(facts.flops_per_token)))
        spent = facts.flops_per_token * sum(facts.tokens.values())
        rows.append(("FLOPs spent on training", words.compact(spent)))
    return [*rows, *words.pairs(run.recipe.get("model"))]


def training(run: RunFiles) -> list[dict[str, Any]]:
    """Per phase: a few figures and its charts."""
    names = {"pretrain": "Pretraining", "instruct": "Instruction tuning"}
    return [
        {
            "name": names.get(phase, phase),
            "figures": _phase_figures(run.summary(phase), lines),
            "charts": [chart for chart in _charts(lines) if chart],
        }
        for phase, lines in run.phases.items()
    ]


def _phase_figures(summary: Mapping[str, Any], lines: PhaseLines) -> list[tuple[str, str]]:
    rows = [("steps", words.exact(last(lines, "step"))), ("tokens", words.compact(last(lines, "tokens_seen")))]
    total = last(lines, "total_steps")
    if total is not None and total != last(lines, "step"):
        rows[0] = ("steps", f"{rows[0][1]} of {words.exact(total)}")
    rows.append(("seconds of training", words.duration(last(lines, "seconds"))))
    rows.append(("tokens per second, median", words.exact(round(typical(lines, "tokens_per_second") or 0) or None)))
    rows.append(("share of the machine's peak (MFU), median", words.percent(typical(lines, "mfu"))))
    rows.append(("last loss", words.exact(last(lines, "loss"))))
    wanted = ("skipped_steps", "lambda", "replay_fraction", "epochs", "micro_batch_rows", "world_size", "compiled")
    return [*rows, *words.pairs({key: summary[key] for key in wanted if key in summary})]


def _charts(lines: PhaseLines) -> list[Chart | None]:
    return [
        _loss_chart(lines),
        line_chart(
            "Validation, bits per byte",
            "step",
            "bits per byte",
            [Series("validation", _validation_points(lines, "bits_per_byte"), marked=True)],
            note="Held-out text; lower is better. It does not depend on the tokenizer.",
        ),
        line_chart("Learning rate", "step", "learning rate", [_series(lines, "learning_rate")], from_zero=True),
        line_chart("Gradient norm", "step", "before clipping", [_series(lines, "grad_norm", smooth=True)]),
        line_chart(
            "Speed", "step", "tokens per second", [_series(lines, "tokens_per_second", smooth=True)], from_zero=True
        ),
        line_chart("Memory", "step", "peak bytes", [_series(lines, "peak_memory_bytes")], from_zero=True),
    ]


def _loss_chart(lines: PhaseLines) -> Chart | None:
    keys = list(dict.fromkeys(key for record in lines.training for key in record if key.startswith("loss_")))
    series = [_series(lines, "loss", smooth=True)] if len(keys) != 1 else []
    series += [_series(lines, key, smooth=True) for key in keys[: LOSS_SERIES - 2]]
    series.append(Series("validation", _validation_points(lines, "loss"), marked=True))
    left_out = f" {len(keys) - LOSS_SERIES + 2} more sources are left out." if len(keys) > LOSS_SERIES - 2 else ""
    note = f"Nats per target token; lower is better. Bold: running mean.{left_out}"
    return line_chart("Loss", "step", "nats per token", series, note=note)


def _series(lines: PhaseLines, key: str, smooth: bool = False) -> Series:
    name = {"loss": "all", "grad_norm": "gradient norm", "peak_memory_bytes": "peak memory"}.get(key)
    name = name or words.name(key.removeprefix("loss_") if key.startswith("loss_") else key)
    return Series(name, list(_points(lines.training, key)), smooth)


def _points(records: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[float, float]]:
    for record in records:
        step, value = number(record.get("step")), number(record.get(key))
        if step is not None and value is not None:
            yield step, value


def _validation_points(lines: PhaseLines, key: str) -> list[tuple[float, float]]:
    flat = [
        {"step": record.get("step"), key: mapping(record.get("validation")).get(key)} for record in lines.validation
    ]
    return list(_points(flat, key))


def evaluation(facts: Facts) -> dict[str, Any]:
    """Metrics side by side: before and after instruction tuning, overall and per group."""
    labels = sorted(facts.metrics, key=lambda label: (label != "base", label))
    names = list(dict.fromkeys(name for label in labels for name in facts.metrics[label]))
    first = [name for name in HEADLINE_METRICS if name in names]
    rest = [name for name in names if name not in first and _adds_something(name, names)]
    return {
        "labels": [LABELS.get(label, words.name(label)) for label in labels],
        "metrics": [_metric_row(name, labels, facts) for name in first],
        "groups": [_metric_row(name, labels, facts) for name in sorted(rest, key=_group_order)[:GROUP_ROWS]],
        "more": max(len(rest) - GROUP_ROWS, 0),
    }


def _adds_something(name: str, names: Sequence[str]) -> bool:
    """False for the one text whose figures are the headline's again."""
    metric, _, group = name.partition("/")
    return not (group and "/" not in group and metric in HEADLINE_METRICS[2:] and metric in names)


def _group_order(name: str) -> tuple[str, int]:
    metric, _, group = name.partition("/")
    return group, HEADLINE_METRICS.index(metric) if metric in HEADLINE_METRICS else len(HEADLINE_METRICS)


def _metric_row(name: str, labels: Sequence[str], facts: Facts) -> dict[str, Any]:
    metric, _, group = name.partition("/")
    entries = [facts.metrics[label].get(name) for label in labels]
    values = [with_error(name, entry) if entry else words.MISSING for entry in entries]
    known = [entry for entry in entries if entry]
    share = number(known[-1]["value"]) if known and metric.endswith(words.PERCENT_ENDINGS) else None
    return {
        "metric": words.name(metric),
        "group": group.replace("_", " "),
        "values": values,
        "n": words.exact(known[-1].get("n")) if known else words.MISSING,
        "bar": Markup("") if share is None else bar([(share, "kept")], 1.0),
    }


def samples(run: RunFiles) -> dict[str, Any]:
    """Answers (a spread of all, and wrong ones) and continuations, of both models side by side."""
    labels = sorted(run.samples, key=lambda label: (label != "base", label))
    answers = _joined(run.samples, labels, "answers", ("prompt", "reference"), "prediction")
    wrong = [answer for answer in answers if answer["right"][-1] is False]
    return {
        "labels": [LABELS.get(label, words.name(label)) for label in labels],
        "answers": _spread(answers, ANSWER_ROWS),
        "wrong": _spread(wrong, ANSWER_ROWS),
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
        for sample in map(mapping, _list(mapping(samples.get(label)).get(kind))):
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
