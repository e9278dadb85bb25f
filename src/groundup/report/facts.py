"""What was read of a run -> its key figures (report.json) and the sentence, tiles and notes that open the page.

Invariant: a figure that the run does not give is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from groundup.report import words
from groundup.report.plain import mapping
from groundup.report.read import PhaseLines, RunFiles
from groundup.report.words import number

FORMAT_VERSION = 1
PHASES = ("pretrain", "instruct", "preferences", "task")
TUNED = ("instruct", "preferences")
"""Phases that go on with the model of the phase before."""
CHANGE = "forgetting:"
"""Prefix of what tuning changed."""
LABELS = {
    "base": "after pretraining",
    "instruct": "after instruction tuning",
    "preferences": "after tuning by preferences",
}
HEADLINE_METRICS = (
    *("accuracy", "macro_f1", "entity_f1", "pearson", "mse", "reward_accuracy", "reward_margin"),
    *("exact_match", "f1", "bits_per_byte", "perplexity", "token_accuracy"),
)
GAP_STEPS = 2
FED = {"pretrain": "text", "instruct": "conversations", "preferences": "preferences", "task": "labelled records"}
"""What a phase is trained on."""

Metrics = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Tile:
    """One key figure: what it is, its value, and a word of context."""

    label: str
    value: str
    detail: str = ""


@dataclass
class Facts:
    """Key figures of a run."""

    parameters: float | None = None
    flops_per_token: float | None = None
    tokens: dict[str, float] = field(default_factory=dict)
    """Tokens trained on, by phase."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of work, by stage."""
    peak_memory_bytes: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """Label (base, instruct, preferences) -> metric -> {value, stderr, n}, in the order of the phases."""
    changes: Metrics = field(default_factory=dict)
    """Metric -> after all tuning minus before."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def final(self) -> Metrics:
        """The metrics of the model that came out."""
        return list(self.metrics.values())[-1] if self.metrics else {}


def collect(run: RunFiles) -> Facts:
    """The key figures of a run in whatever state."""
    facts = Facts()
    for stage in run.stages:
        if stage.seconds is not None:
            facts.seconds[stage.name] = stage.seconds
        memory = number(stage.summary.get("peak_memory_bytes"))
        if memory is not None:
            facts.peak_memory_bytes[stage.name] = memory
        for name, version in mapping(stage.manifest.get("versions")).items():
            facts.versions[str(name)] = str(version)
    for phase in PHASES:
        summary = run.summary(phase)
        tokens = number(summary.get("tokens"))
        if tokens is None and phase in run.phases:
            tokens = last(run.phases[phase], "tokens_seen")
        if tokens is not None:
            facts.tokens[phase] = tokens
        facts.parameters = number(summary.get("parameters")) or facts.parameters
        facts.flops_per_token = number(summary.get("flops_per_token")) or facts.flops_per_token
    metrics = _metrics(run.evaluation)
    facts.changes = {name.removeprefix(CHANGE): entry for name, entry in metrics.items() if name.startswith(CHANGE)}
    facts.metrics = _by_model({name: entry for name, entry in metrics.items() if not name.startswith(CHANGE)})
    return facts


def _by_model(metrics: Metrics) -> dict[str, Metrics]:
    """Metrics of each phase's model: `before_<phase>:<metric>` is that of the model which the phase began with."""
    by_model: dict[str, Metrics] = {}
    label, rest = "base", dict(metrics)
    for phase in TUNED:
        prefix = f"before_{phase}:"
        before = {name.removeprefix(prefix): rest.pop(name) for name in metrics if name.startswith(prefix)}
        if before:
            by_model[label], label = before, phase
    by_model[label] = rest
    return {label: found for label, found in by_model.items() if found}


def _metrics(values: Any) -> Metrics:
    found = {str(name): entry for name, entry in mapping(values).items() if isinstance(entry, dict)}
    return {name: entry for name, entry in found.items() if number(entry.get("value")) is not None}


def last(lines: PhaseLines, key: str) -> float | None:
    """The last finite value of a metric in a phase."""
    values = (number(record.get(key)) for record in reversed(lines.training))
    return next((value for value in values if value is not None), None)


def typical(lines: PhaseLines, key: str) -> float | None:
    """The median of a metric over a phase."""
    values = [value for record in lines.training if (value := number(record.get(key))) is not None]
    return median(values) if values else None


def to_json(run: RunFiles, facts: Facts) -> dict[str, Any]:
    """What report.json holds."""
    return {
        "format": FORMAT_VERSION,
        "name": run.name,
        "finished": run.finished,
        "parameters": facts.parameters,
        "tokens": {**facts.tokens, "total": sum(facts.tokens.values())},
        "seconds": {**facts.seconds, "total": round(sum(facts.seconds.values()), 3)},
        "effective_training": effective_training(run),
        "cost": {stage.name: _cost(facts, stage.name) for stage in run.stages},
        "metrics": facts.final,
        "metrics_by_phase": facts.metrics,
        "changes": facts.changes,
        "lambda": _lambda(run),
        "stages": [{"name": s.name, "state": s.state, "seconds": s.seconds} for s in run.stages],
        "versions": facts.versions,
        "problems": run.problems,
    }


def _lambda(run: RunFiles) -> dict[str, Any] | None:
    """The weight of the instruction loss and how it was decided; a course over the steps has no single value."""
    asked = mapping(run.recipe.get("instruct")).get("lambda")
    if number(asked) is not None:
        return {"value": number(asked), "chosen": "set in the recipe"}
    if not isinstance(asked, dict):
        return None
    if asked.get("kind") != "auto":
        return {"value": None, "chosen": "a course over the steps", "course": asked}
    found = run.lambda_search
    searched = {key: value for key, value in found.items() if key != "lambda"}
    return {"value": number(found.get("lambda")), "chosen": "by cross-validation", **searched}


def effective_training(run: RunFiles) -> dict[str, dict[str, Any]]:
    """Of each phase: attempts, seconds of use and in all, their share, and how the earlier attempts ended."""
    found = {phase: mapping(run.summary(phase).get("effective_training")) for phase in PHASES}
    return {phase: dict(each) for phase, each in found.items() if each}


def _cost(facts: Facts, stage: str) -> dict[str, float | None]:
    tokens = facts.tokens.get(stage)
    flops = None if tokens is None or facts.flops_per_token is None else tokens * facts.flops_per_token
    return {
        "seconds": facts.seconds.get(stage),
        "peak_memory_bytes": facts.peak_memory_bytes.get(stage),
        "flops": flops,
    }


def with_error(metric: str, entry: dict[str, Any]) -> str:
    """A metric with its standard error: "93.4% ± 0.8", "1.234 ± 0.004"."""
    value, error = number(entry.get("value")), number(entry.get("stderr"))
    if value is None:
        return words.MISSING
    if metric.split("/")[0].endswith(words.PERCENT_ENDINGS):
        return words.percent(value) + ("" if error is None else f" ± {100 * error:.1f}")
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def sentence(facts: Facts) -> str:
    """What was trained, on what, how long, how well: one or two sentences for somebody who knows nothing of the run."""
    if not facts.tokens and not facts.metrics:
        return "Nothing of this run is trained yet."
    parameters = f"A model of {words.compact(facts.parameters)} parameters" if facts.parameters else "A model"
    parts = [parameters]
    total = sum(facts.tokens.values())
    if total:
        phases = " and ".join(FED[phase] for phase in facts.tokens)
        parts.append(f"trained from scratch on {words.compact(total)} tokens of {phases}")
    seconds = sum(facts.seconds.values())
    if seconds:
        parts.append(f"made in {words.duration(seconds)}, all stages included")
    return ", ".join(parts) + "." + _quality(facts)


def _quality(facts: Facts) -> str:
    match = facts.final.get("exact_match")
    if match is None:
        return ""
    before = facts.metrics.get("base", {}).get("exact_match")
    known = before is not None and words.percent(before["value"]) != words.percent(match["value"])
    was = f", {words.percent(before['value'])} before instruction tuning" if before is not None and known else ""
    n = words.exact(match.get("n"))
    return f" It answers {words.percent(match['value'])} of {n} held-out questions word for word{was}."


def tiles(facts: Facts) -> list[Tile]:
    """The figures one looks for first."""
    found = []
    names = {"exact_match": "Answered exactly", "bits_per_byte": "Bits per byte"}
    for metric, label in names.items():
        entry = facts.final.get(metric)
        if entry is not None:
            value, _, error = with_error(metric, entry).partition(" ± ")
            before = facts.metrics.get("base", {}).get(metric)
            was = (
                "" if before is None or before is entry else f"before tuning {with_error(metric, before).split(' ')[0]}"
            )
            found.append(Tile(label, value, "; ".join(filter(None, (f"± {error}" if error else "", was)))))
    if facts.parameters:
        found.append(Tile("Parameters", words.compact(facts.parameters), words.exact(facts.parameters)))
    if facts.tokens:
        by_phase = ", ".join(f"{words.compact(tokens)} {phase}" for phase, tokens in facts.tokens.items())
        found.append(Tile("Tokens trained on", words.compact(sum(facts.tokens.values())), by_phase))
    if facts.seconds:
        slowest = max(facts.seconds, key=lambda name: facts.seconds[name])
        detail = f"{words.duration(facts.seconds[slowest])} of it {slowest}"
        found.append(Tile("Time", words.duration(sum(facts.seconds.values())), detail))
    if facts.peak_memory_bytes:
        most = max(facts.peak_memory_bytes, key=lambda name: facts.peak_memory_bytes[name])
        found.append(Tile("Peak memory", words.size(facts.peak_memory_bytes[most]), f"in {most}"))
    return found


def notes(run: RunFiles) -> list[str]:
    """What a reader should know before trusting the figures."""
    found = []
    for phase, lines in run.phases.items():
        skipped = sum(1 for record in lines.training if record.get("skipped") is True)
        if skipped:
            found.append(f"{phase}: {skipped} steps had a loss or gradient that was not finite and changed nothing.")
        found += _gaps(phase, lines) if run.lines_read_every == 1 else []
        found += _overfitting(phase, lines)
    for phase, each in effective_training(run).items():
        if (number(each.get("attempts")) or 1) > 1:
            share, wall = words.percent(each.get("effective_share")), words.duration(each.get("wall_seconds"))
            found.append(f"{phase}: {each['attempts']} attempts; {share} of {wall} were steps that stayed.")
    fallbacks = sum(1 for event in run.events if event.get("event") == "checkpoint_fallback")
    if fallbacks:
        found.append(f"{fallbacks} damaged checkpoints were found; training went on from the one before.")
    if run.lines_read_every > 1:
        found.append(f"metrics.jsonl is long: every {run.lines_read_every}th line of training was read for the curves.")
    return found


def _gaps(phase: str, lines: PhaseLines) -> list[str]:
    steps = [int(record["step"]) for record in lines.training]
    gaps = [(a + 1, b - 1) for a, b in pairwise(steps) if b - a >= GAP_STEPS]
    if not gaps:
        return []
    shown = ", ".join(f"{first} to {end}" if end > first else f"{first}" for first, end in gaps[:3])
    return [f"{phase}: metrics.jsonl has no line for step {shown}{' and others' if len(gaps) > 3 else ''}."]


def _overfitting(phase: str, lines: PhaseLines) -> list[str]:
    measured = [number(mapping(record.get("validation")).get("bits_per_byte")) for record in lines.validation]
    values = [value for value in measured if value is not None]
    if len(values) < 3 or values[-1] < 1.02 * min(values):
        return []
    risen = 100 * (values[-1] / min(values) - 1)
    return [
        f"{phase}: validation bits per byte ended {risen:.0f}% above its best ({min(values):.3f} to {values[-1]:.3f})"
        + (
            ": the model began to learn its text by heart."
            if phase == "pretrain"
            else ": tuning cost some of the text."
        )
    ]


def key_figures(report: Mapping[str, Any]) -> list[str]:
    """The figures of a report.json that one looks for first, a line each: what the command prints when it is done."""
    tokens = mapping(report.get("tokens")).get("total")
    lines = [f"{words.exact(report.get('parameters'))} parameters, trained on {words.exact(tokens)} tokens"]
    final = _metrics(report.get("metrics"))
    base = _metrics(mapping(report.get("metrics_by_phase")).get("base"))
    for name in HEADLINE_METRICS:
        if name in final:
            before = (
                f", before instruction tuning {with_error(name, base[name])}" if name in base and base != final else ""
            )
            lines.append(f"{words.name(name)}: {with_error(name, final[name])}{before}")
    return lines if number(tokens) else []
