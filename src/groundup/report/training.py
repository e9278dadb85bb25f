"""Model and training sections of the page: what the network is, and the curves of both phases.

Invariant: as in `data`, whatever the files hold gives a page; a chart without points is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from groundup.errors import printable
from groundup.report import words
from groundup.report.charts import SMALL_HEIGHT, Chart, Series, line_chart
from groundup.report.facts import Facts, last, typical
from groundup.report.plain import mapping
from groundup.report.read import PhaseLines, RunFiles
from groundup.report.words import number

LOSS_SERIES = 6


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
    names = {
        "pretrain": "Pretraining",
        "instruct": "Instruction tuning",
        "preferences": "Preferences",
        "task": "Task",
    }
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
    rows.append(("time", words.duration(last(lines, "seconds"))))
    rows.append(("tokens per second", words.exact(round(typical(lines, "tokens_per_second") or 0) or None)))
    rows.append(("peak speed used (MFU)", words.percent(typical(lines, "mfu"))))
    effective = mapping(summary.get("effective_training"))
    if effective:
        attempts = words.exact(effective.get("attempts"))
        share = f"{words.percent(effective.get('effective_share'))} of {words.duration(effective.get('wall_seconds'))}"
        rows.append(("effective training time", f"{share}, attempts: {attempts}"))
    rows.append(("last loss", words.exact(last(lines, "loss"))))
    wanted = ("skipped_steps", "lambda", "lambda_chosen", "replay_fraction", "epochs")
    technical = ("micro_batch_rows", "world_size", "computed_by")
    return [*rows, *words.pairs({key: summary[key] for key in (*wanted, *technical) if key in summary})]


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
        _small("Learning rate", "learning rate", _series(lines, "learning_rate")),
        _lambda_chart(lines),
        _small("Gradient norm", "before clipping", _series(lines, "grad_norm", smooth=True), from_zero=False),
        _small("Speed", "tokens per second", _series(lines, "tokens_per_second", smooth=True)),
        _small("Memory", "bytes at the peak", _series(lines, "peak_memory_bytes")),
    ]


def _lambda_chart(lines: PhaseLines) -> Chart | None:
    """Lambda over the steps, where it changes."""
    series = _series(lines, "lambda")
    return _small("Lambda", "weight of the answers", series) if len({y for _, y in series.points}) > 1 else None


def _small(title: str, y_name: str, series: Series, from_zero: bool = True) -> Chart | None:
    return line_chart(title, "step", y_name, [series], from_zero, SMALL_HEIGHT)


def _loss_chart(lines: PhaseLines) -> Chart | None:
    keys = list(dict.fromkeys(key for record in lines.training for key in record if key.startswith("loss_")))
    series = [_series(lines, "loss", smooth=True)] if len(keys) != 1 else []
    series += [_series(lines, key, smooth=True) for key in keys[: LOSS_SERIES - 2]]
    series.append(Series("validation", _validation_points(lines, "loss"), marked=True))
    left_out = f" {len(keys) - LOSS_SERIES + 2} more sources are left out." if len(keys) > LOSS_SERIES - 2 else ""
    note = f"Nats per target token; lower is better. Bold: running mean.{left_out}"
    return line_chart("Loss", "step", "nats per token", series, note=note)


def _series(lines: PhaseLines, key: str, smooth: bool = False) -> Series:
    name = {"loss": "total", "grad_norm": "gradient norm", "peak_memory_bytes": "peak memory"}.get(key)
    name = name or words.name(key.removeprefix("loss_") if key.startswith("loss_") else key)
    return Series(printable(name), list(_points(lines.training, key)), smooth)


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
