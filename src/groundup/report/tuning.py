"""Sections of the page on instruction tuning: how lambda was chosen, and what tuning changed.

Invariant: as in `data`, whatever the files hold gives a page.
"""

from __future__ import annotations

from typing import Any

from groundup.report import words
from groundup.report.facts import HEADLINE_METRICS, Facts
from groundup.report.plain import entries, mapping
from groundup.report.read import RunFiles
from groundup.report.results import METRIC_WORDS
from groundup.report.tradeoff import TradeOff, trade_off_chart
from groundup.report.words import number

LOWER_IS_BETTER = ("bits_per_byte", "bits_per_byte_share", "bits_per_token", "perplexity", "mse")
CLEAR = 2.0
"""A difference of so many standard errors is called a change."""
CHANGED_ROWS = 40
SHARE = "bits_per_byte_share"


def changed(facts: Facts) -> list[dict[str, Any]]:
    """What instruction tuning changed: each metric before and after, the difference, and whether it is a clear one."""
    before, after = facts.metrics.get("base", {}), facts.final
    names = sorted(
        filter(_tells_more, facts.changes), key=lambda name: (name.partition("/")[0] != "bits_per_byte", name)
    )
    return [_changed_row(name, before, after, facts) for name in names][:CHANGED_ROWS]


def _tells_more(name: str) -> bool:
    """Of groups, the texts' bits per byte say enough; the first text's are the headline's already."""
    metric, _, group = name.partition("/")
    if metric in ("bits_per_token", SHARE) or (metric == "bits_per_byte" and group == "validation"):
        return False
    return not group or metric == "bits_per_byte" or metric not in HEADLINE_METRICS


def _changed_row(name: str, before: dict[str, Any], after: dict[str, Any], facts: Facts) -> dict[str, Any]:
    metric, _, group = name.partition("/")
    difference = number(facts.changes[name].get("value")) or 0.0
    error = number(facts.changes[name].get("stderr"))
    share = facts.changes.get(SHARE) if name == "bits_per_byte" else None
    clear = error is not None and abs(difference) > CLEAR * error
    worse = (difference > 0) == (metric in LOWER_IS_BETTER)
    percent = metric.endswith(words.PERCENT_ENDINGS)
    large = abs(number(mapping(after.get(name)).get("value")) or 0.0) >= 10  # as perplexity is
    scale, digits = (100, 1) if percent else (1, 1 if large else 4)
    return {
        "metric": METRIC_WORDS.get(metric, (words.name(metric), "", ""))[0],
        "group": group.replace("_", " "),
        "before": _value(before.get(name), percent),
        "after": _value(after.get(name), percent),
        "difference": f"{scale * difference:+.{digits}f}"
        + ("" if error is None else f" ± {scale * error:.{digits}f}")
        + (f" ({_share(share)})" if share else ""),
        "verdict": "no clear change" if not clear else "worse" if worse else "better",
    }


def _value(entry: Any, percent: bool) -> str:
    value = number(mapping(entry).get("value"))
    return words.percent(value) if percent else words.exact(value)


def _share(entry: dict[str, Any]) -> str:
    value, error = number(entry.get("value")) or 0.0, number(entry.get("stderr"))
    return f"{100 * value:+.2f}%" + ("" if error is None else f" ± {100 * error:.2f}")


def choice(run: RunFiles) -> dict[str, Any]:
    """How lambda was found by cross-validation: the sentence, the warnings, the trade-off as a chart; else {}."""
    found = run.lambda_search
    chosen = number(found.get("lambda"))
    if chosen is None:
        return {}
    points = [point for entry in entries(found.get("points")) for point in _points(entry, chosen)]
    bound = 100 * (number(found.get("bound")) or 0.0)
    warnings = found.get("warnings")
    better = "higher" if found.get("metric") == "exact_match" else "lower"
    return {
        "value": f"{chosen:g}",
        "why": str(found.get("why", "")),
        "warnings": list(map(str, warnings)) if isinstance(warnings, list) else [],
        "chart": trade_off_chart(
            "Answers against forgetting",
            str(found.get("unit", "quality")),
            points,
            bound,
            f"Answers to held-out conversations ({better} is better) over what held-out text lost; crosses are one "
            "standard error. Each trial had a part of the budget and was without one part of the conversations. "
            + _baseline(found),
        ),
    }


def _baseline(found: dict[str, Any]) -> str:
    """What forgetting is counted from, in words."""
    if found.get("baseline") != "replay":
        return "Forgetting is counted from the model before."
    alone = number(mapping(found.get("baseline_since_before")).get("value"))
    cost = "" if alone is None else f", which changes its bits per byte by {100 * alone:+.2f}%"
    return f"Forgetting is counted from the same short training on replayed text alone{cost}."


def _points(entry: dict[str, Any], chosen: float) -> list[TradeOff]:
    """A value of lambda, and its trials when it has several."""
    weight, stopped = number(entry.get("lambda")), str(entry.get("stopped") or "")
    if weight is None:
        return []
    kind = "chosen" if weight == chosen else "stopped" if stopped else "finished"
    state = {"chosen": "chosen", "finished": "tried on every fold"}.get(kind, f"stopped: {stopped}")
    trials = entries(entry.get("trials"))
    found = [_point(f"λ {weight:g}", entry, kind, state)]
    if len(trials) > 1:
        found += [
            _point(f"λ {weight:g}, fold {words.exact(trial.get('fold'))}", trial, "trial", "") for trial in trials
        ]
    return [point for point in found if point is not None]


def _point(name: str, entry: dict[str, Any], kind: str, state: str) -> TradeOff | None:
    lost, quality = mapping(entry.get("forgetting")), mapping(entry.get("quality"))
    x, y = number(lost.get("value")), number(quality.get("value"))
    if x is None or y is None:
        return None
    errors = 100 * (number(lost.get("stderr")) or 0.0), number(quality.get("stderr")) or 0.0
    return TradeOff(name, 100 * x, y, *errors, kind, state)
