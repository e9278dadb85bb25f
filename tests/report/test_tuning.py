"""What the page says of instruction tuning: how lambda was chosen, the trade-off as a chart, what tuning changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.report import build_report
from groundup.report.tradeoff import TradeOff, trade_off_chart
from tests.report.test_build import page_of
from tests.report.toy_run import write_json

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10, 10)
NAMES = st.sampled_from(["0.5", "<b>&", "λ"])
KINDS = ("chosen", "finished", "stopped", "trial")


def search() -> dict[str, Any]:
    """What lambda.json holds."""

    def figures(quality: float, lost: float) -> dict[str, Any]:
        return {
            "quality": {"value": quality, "stderr": 0.01, "n": 9000},
            "forgetting": {"value": lost, "stderr": 0.002, "n": 128900},
        }

    def point(weight: float, quality: float, lost: float, folds: int) -> dict[str, Any]:
        trials = [{"fold": fold, **figures(quality + 0.01 * fold, lost)} for fold in range(folds)]
        stopped = "" if folds == 3 else f"not among the best 2 after {folds} of 3 folds"
        return {"lambda": weight, "stopped": stopped, **figures(quality, lost), "trials": trials}

    return {
        "lambda": 1.0,
        "why": "of the values within the bound of 2.0% on forgetting, lambda 1 answers best",
        "within_bound": True,
        "warnings": ["lambda 1 is not the end of it"],
        "bound": 0.02,
        "metric": "loss",
        "unit": "bits per answer byte",
        "trial_tokens": 100,
        "bits_per_byte_before": 1.4,
        "points": [point(0.5, 0.9, 0.004, 3), point(1.0, 0.7, 0.011, 3), point(4.0, 0.6, 0.05, 1)],
    }


def with_search(run: Path, found: Any) -> Path:
    """The toy run with a finished lambda stage."""
    folder = run.parent.parent / "stages" / "lambda" / "0123456789abcdef"
    write_json(folder / "lambda.json", found)
    write_json(folder / "manifest.json", {"format": 1, "stage": "lambda", "seconds": 60.0, "summary": {}, "files": {}})
    stages = json.loads((run / "stages.json").read_text())
    stages.append({"name": "lambda", "fingerprint": "0" * 16, "folder": str(folder), "state": "done", "seconds": 60.0})
    write_json(run / "stages.json", stages)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("lambda: 1.0", "lambda: {kind: auto}"))
    return run


def test_the_choice_is_said_drawn_and_given_to_programs(run_folder: Path) -> None:
    page = page_of(with_search(run_folder, search()))
    assert "Lambda is 1 : of the values within the bound" in " ".join(page.text.split()).replace("1:", "1 :")
    assert "Answers against forgetting" in page.text and "not the end of it" in page.text
    assert "stopped: not among the best 2 after 1 of 3 folds" in page.text
    found = json.loads((run_folder / "report.json").read_text())["lambda"]
    assert found["value"] == 1.0 and found["chosen"] == "by cross-validation" and len(found["points"]) == 3


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"lambda": "x"},
        {"lambda": 1.0},
        {"lambda": 1.0, "points": 3, "warnings": 4, "bound": None},
        {"lambda": 1.0, "points": [{"lambda": 1.0, "quality": 2, "forgetting": {"value": "no"}, "trials": {}}, 7]},
    ],
)
def test_whatever_the_file_holds_gives_a_page(run_folder: Path, found: Any) -> None:
    assert "Instruction tuning" in page_of(with_search(run_folder, found)).text


def test_a_search_that_is_not_done_has_no_value(run_folder: Path) -> None:
    with_search(run_folder, search())
    (run_folder / "stages.json").write_text(
        (run_folder / "stages.json").read_text().replace('"fingerprint": "' + "0" * 16, '"x": "')
    )
    stages = json.loads((run_folder / "stages.json").read_text())
    write_json(
        run_folder / "stages.json",
        [{**each, "state": "partial"} if each["name"] == "lambda" else each for each in stages],
    )
    build_report(run_folder)
    found = json.loads((run_folder / "report.json").read_text())["lambda"]
    assert found == {"value": None, "chosen": "by cross-validation"}


def test_what_tuning_changed_is_a_table_with_verdicts(run_folder: Path) -> None:
    path = run_folder.parent.parent / "stages" / "evaluate" / "0123456789abcdef" / "evaluation.json"
    metrics = json.loads(path.read_text())
    metrics |= {
        "forgetting:bits_per_byte": {"value": 0.04, "stderr": 0.002, "n": 128900},
        "forgetting:bits_per_byte_share": {"value": 0.0342, "stderr": 0.0017, "n": 128900},
        "forgetting:perplexity": {"value": -98.4329, "stderr": 28.2474, "n": 38000},
        "bits_per_token/validation": {"value": 7.77, "stderr": 0.1, "n": 38000},
        "forgetting:exact_match": {"value": 0.934, "stderr": 0.008, "n": 1040},
        "forgetting:token_accuracy": {"value": 0.001, "stderr": 0.003, "n": 38000},
        "forgetting:bits_per_byte/test/persuasion": {"value": 0.05, "stderr": 0.1, "n": 38000},
        "forgetting:exact_match/short/capital": {"value": 0.125, "stderr": 0.1, "n": 38000},
    }
    write_json(path, metrics)
    page = page_of(run_folder)
    text = " ".join(page.text.split())
    assert "What instruction tuning changed" in text
    assert "1.17 1.21 +0.0400 ± 0.0020 (+3.42% ± 0.17) worse" in text
    assert "0.0% 93.4% +93.4 ± 0.8 better" in text
    assert "-98.4 ± 28.2 better" in text and "7.77" not in text, "bits per token are perplexity once more"
    assert "+0.1 ± 0.3 no clear change" in text
    assert "+0.0500 ± 0.1000 no clear change" in text and "+12.5 ± 10.0" not in text, (
        "groups of texts, not of questions"
    )
    figures = json.loads((run_folder / "report.json").read_text())
    assert figures["changes"]["bits_per_byte_share"]["value"] == 0.0342
    assert not any(name.startswith("forgetting") for name in figures["metrics"])


def test_without_changes_there_is_no_such_table(run_folder: Path) -> None:
    assert "What instruction tuning changed" not in page_of(run_folder).text


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            TradeOff,
            NAMES,
            numbers,
            numbers,
            numbers,
            numbers,
            st.sampled_from(KINDS),
            NAMES,
        ),
        max_size=8,
    ),
    numbers,
)
def test_any_points_give_a_drawing_within_its_frame(points: list[TradeOff], bound: float) -> None:
    chart = trade_off_chart("Trade-off", "<quality>", points, bound, "")
    if chart is None:
        assert not any(abs(p.forgetting) < 1e6 and abs(p.quality) < 1e6 and p.kind != "trial" for p in points)
        return
    svg = ElementTree.fromstring(str(chart.svg))
    for circle in svg.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 560 and 0 <= float(circle.attrib["cy"]) <= 300
    for line in svg.iter("line"):
        assert all(-1 <= float(line.attrib[name]) <= 561 for name in ("x1", "x2", "y1", "y2"))
    assert all(len(row) == len(chart.header) for row in chart.rows)
