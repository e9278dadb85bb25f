"""Runs on the same text beside each other in one table, whatever kind of model they have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.report import build_report
from groundup.report.comparison import comparison
from groundup.report.facts import collect
from groundup.report.read import read_run
from tests.report.test_build import Page
from tests.report.toy_run import RECIPE, evaluation, write_json

HEADING = "Beside other runs on the same text"


def add_run(run: Path, name: str, kind: str = "lstm", bits: float = 1.5, **changes: Any) -> Path:
    """A copy of `run` under another name, with a model of another kind and another figure."""
    other = run.with_name(name)
    shutil.copytree(run, other, symlinks=True)
    (other / "recipe.yaml").write_text(RECIPE.replace("kind: decoder", f"kind: {kind}").replace("atlas", name))
    entries = json.loads((run / "stages.json").read_text())
    folder = run.parents[1] / "stages" / "evaluate" / f"of-{name}"
    found = {**evaluation(), "bits_per_byte": {"value": bits, "stderr": 0.02, "n": 9}}
    write_json(folder / "evaluation.json", found | {"bits_per_byte/validation": found["bits_per_byte"]})
    for entry in entries:
        if entry["name"] == "evaluate":
            entry["folder"] = str(folder)
        entry |= changes.get(entry["name"], {})
    write_json(other / "stages.json", entries)
    return other


def rows(run: Path) -> list[dict[str, Any]]:
    read = read_run(run)
    found: list[dict[str, Any]] = comparison(read, collect(read))["rows"]
    return found


def test_runs_of_every_kind_share_a_table_best_first(run_folder: Path) -> None:
    add_run(run_folder, "recurrent", bits=1.6)
    add_run(run_folder, "masked", kind="encoder", bits=0.9)
    found = rows(run_folder)
    assert [(row["name"], row["kind"], row["own"]) for row in found] == [
        ("masked", "encoder", False),
        ("atlas", "decoder", True),
        ("recurrent", "lstm", False),
    ]
    assert [row["values"][0] for row in found] == ["0.900 ± 0.020 *", "1.210 ± 0.011", "1.600 ± 0.020"]
    assert {row["values"][1] for row in found[1:]} == {"1.610 ± 0.020"}
    wanted = {"parameters": "9.4M", "tokens": "3.6M", "seconds": "6 min 42 s", "measured": "129 kB"}
    assert found[1] | wanted == found[1]


def test_the_page_marks_this_run_and_explains_pseudo_likelihoods(run_folder: Path) -> None:
    other = add_run(run_folder, "masked", kind="encoder")
    page = Page(build_report(run_folder).read_text(encoding="utf-8"))
    for part in (HEADING, "atlas  this run", "encoder  6 layers, 320 wide", "pseudo-likelihood", "Persuasion"):
        assert part in page.text, part
    assert ("tr", {"class": "own"}) in page.tags
    assert "masked  this run" in Page(build_report(other).read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: add_run(run, "other", corpus={"fingerprint": "fedcba9876543210"}),
        lambda run: add_run(run, "other", corpus={"state": "partial"}),
        lambda run: add_run(run, "other", evaluate={"state": "missing"}),
        lambda run: (run.with_name("other")).mkdir(),
        lambda run: run.with_name("other.lock").write_text(""),
        lambda run: (add_run(run, "other") / "stages.json").write_text("[{]"),
        lambda run: (add_run(run, "other") / "stages.json").write_text("{}"),
        lambda run: add_run(run, "other", evaluate={"folder": "nowhere"}),
        lambda run: None,
    ],
)
def test_without_another_run_on_the_same_text_there_is_no_table(
    run_folder: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(run_folder)
    assert rows(run_folder) == []
    assert HEADING not in build_report(run_folder).read_text(encoding="utf-8")


def test_damage_beside_a_run_is_no_problem_of_its_own(run_folder: Path) -> None:
    other = add_run(run_folder, "other")
    (other / "recipe.yaml").unlink()
    report = build_report(run_folder)
    assert json.loads((report.parent / "report.json").read_text())["problems"] == []
    assert [row["kind"] for row in rows(run_folder)] == ["decoder", "–"]


def test_of_very_many_runs_the_best_are_shown_and_this_one(run_folder: Path) -> None:
    for number in range(45):
        add_run(run_folder, f"run-{number:02d}", bits=1.0 + number / 1000)
    read = read_run(run_folder)
    found = comparison(read, collect(read))
    assert len(found["rows"]) == 41
    assert found["more"] == 5
    assert found["rows"][-1]["own"]


def test_the_page_is_the_same_when_it_is_made_again(run_folder: Path) -> None:
    add_run(run_folder, "other")
    assert build_report(run_folder).read_bytes() == build_report(run_folder).read_bytes()
