"""A comparison of two models -> a page with both answers to every prompt beside each other.

    figures of both, differences with errors, verdicts of a judge, then pair by pair

Invariant: as on every page, prompts and answers are text and never markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.errors import DataError, resource_errors
from groundup.report import words
from groundup.report.page import rendered
from groundup.report.plain import mapping
from groundup.stage import write_text

SIDES = ("a", "b")
TITLES = {"f1": "F1", "rougeL": "ROUGE-L", "exact_match": "exact match", "words": "words in the answer"}
ENOUGH_PROMPTS = 10
"""Of fewer no difference is marked: their standard error is hardly known."""
LONG_TASK = 3
"""Figures whose names have more parts than this are those of groups; they are left to the reports."""


def render_comparison(found: Mapping[str, Any]) -> str:
    """The page of what `compare.Comparison` says of itself."""
    rows = [_row(name, mapping(figure), found) for name, figure in mapping(found.get("figures")).items()]
    return rendered(
        "side_by_side.html",
        {
            "names": [str(found.get(side, side)) for side in SIDES],
            "rows": rows,
            "evaluation": _evaluation(found.get("evaluation")),
            "judge": _judge(mapping(found.get("judge"))),
            "pairs": [_pair(pair) for pair in found["pairs"]],
            "count": found["all_pairs"],
        },
    )


def write_page(path: Path, page: str) -> None:
    """Into a file. Raises DataError when its folder is missing, ResourceError when it cannot be written."""
    if not path.parent.is_dir():
        raise DataError(f"{str(path.parent)[-80:]}: no such folder; make it, or give another --out")
    with resource_errors(path.parent):
        write_text(path, page)


def _row(name: str, figure: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    better = next((each for each in found["better"] if each["name"] == name), {"a": 0, "b": 0})
    difference = mapping(figure.get("b_minus_a"))
    return {
        "name": TITLES.get(name) or words.name(name),
        "sides": [_figure(name, mapping(figure.get(side))) for side in SIDES],
        "difference": _figure(name, difference, signed=True),
        "marked": _clear(difference),
        "higher": [words.exact(better[side]) for side in SIDES],
        "n": words.exact(difference.get("n")),
    }


def _figure(name: str, metric: Mapping[str, Any], signed: bool = False) -> str:
    """A value with its standard error, as a percentage where the name is that of a share."""
    value, error = words.number(metric.get("value")), words.number(metric.get("stderr"))
    if value is None:
        return words.MISSING
    share = name.endswith((*words.PERCENT_ENDINGS, "rougeL", "rate", "agreement", "place"))
    scale, unit = (100.0, "%") if share else (1.0, "")
    sign = "+" if signed and value > 0 else ""
    text = f"{sign}{value * scale:.1f}{unit}" if share or name == "words" else f"{sign}{words.exact(value)}"
    return text if error is None else f"{text} ± {words.significant(error * scale, 2)}"


def _clear(metric: Mapping[str, Any]) -> bool:
    """Whether a difference is more than two standard errors."""
    value, error = words.number(metric.get("value")), words.number(metric.get("stderr"))
    enough = (words.number(metric.get("n")) or 0) >= ENOUGH_PROMPTS
    return enough and value is not None and error is not None and value != 0 and abs(value) > 2 * error


def _evaluation(both: Any) -> list[dict[str, Any]]:
    """Figures of both runs' own evaluations that have the same name, without those of groups."""
    one, other = (mapping(figures) for figures in (both if isinstance(both, list) and len(both) == 2 else ({}, {})))
    names = [name for name in one if name in other and ":" not in name and name.count("/") < LONG_TASK - 1]
    return [
        {"name": words.name(name), "sides": [_figure(name, mapping(each.get(name))) for each in (one, other)]}
        for name in names
    ]


def _judge(judge: Mapping[str, Any]) -> dict[str, Any] | None:
    if not judge:
        return None
    wins, orders = mapping(judge.get("wins")), mapping(judge.get("orders"))
    return {
        "model": str(judge.get("model", "")),
        "fault": str(judge.get("fault", "")),
        "wins": {side: words.exact(wins.get(side)) for side in (*SIDES, "tie")},
        "rate": _figure("rate", mapping(judge.get("win_rate_b"))),
        "orders": _agreement(orders),
        "first_place": _figure("place", mapping(judge.get("first_place"))),
        "people": _agreement(mapping(judge.get("people"))) if judge.get("people") else None,
        **{name: words.exact(judge.get(name)) for name in ("unreadable", "unjudged", "equal_answers")},
    }


def _agreement(found: Mapping[str, Any]) -> dict[str, str]:
    kappa = {"value": found.get("kappa"), "stderr": found.get("kappa_stderr")}
    share = mapping(found.get("agreement"))
    return {
        "share": _figure("agreement", share),
        "kappa": _figure("kappa", kappa) if found.get("kappa") is not None else words.MISSING,
        "n": words.exact(share.get("n")),
    }


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    scores = mapping(pair.get("scores"))
    right = [mapping(scores.get(side)).get("exact_match") for side in SIDES]
    judgement = mapping(pair.get("judgement"))
    turns = pair["prompt"]
    return {
        "history": turns[:-1],
        "prompt": turns[-1]["content"],
        "reference": pair.get("reference"),
        "answers": [
            {
                "text": str(pair[side]),
                "right": None if value is None else value == 1.0,
                "scores": ", ".join(
                    f"{TITLES.get(name) or words.name(name)} {_figure(name, {'value': score})}"
                    for name, score in mapping(scores.get(side)).items()
                    if name not in ("exact_match", "words")
                ),
            }
            for side, value in zip(SIDES, right)
        ],
        "same": bool(pair.get("same")),
        "verdict": _verdict(judgement),
    }


def _verdict(judgement: Mapping[str, Any]) -> str:
    """What the judge said of a pair, in words."""
    if not judgement:
        return ""
    orders = [str(said).upper() if said in SIDES else str(said or "unreadable") for said in judgement.get("orders", [])]
    verdict = judgement.get("verdict")
    if verdict is None:
        return f"The judge gave no verdict that can be read ({', then '.join(orders)})."
    if verdict == "tie" and orders != ["tie", "tie"]:
        return f"A tie: the judge changed its mind with the order ({', then '.join(orders)})."
    return (
        "A tie, says the judge in both orders."
        if verdict == "tie"
        else f"{str(verdict).upper()} is better, says the judge in both orders."
    )
