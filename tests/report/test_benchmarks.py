"""Benchmarks on the page: figures of both models, items, and nothing that a file may hold breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundup.report import benchmarks, results
from groundup.report.facts import Facts
from groundup.report.read import RunFiles

ENTRY = {"value": 0.5, "stderr": 0.05, "n": 100}
METRICS = {"exact_match": ENTRY, "exam/accuracy": ENTRY, "exam/accuracy/law": ENTRY}
ITEM = {
    "prompts": ["<b>Why?</b>"],
    "options": ["one", "two"],
    "log_likelihoods": [-1.5, -2.5],
    "reference": 1,
    "choice": 0,
}
TASK = {
    "kind": "multiple_choice",
    "records": {"total": 103, "accepted": 100, "rejected": {"no field 'x'": 3}},
    "signatures": {"bleu": "nrefs:1|tok:13a"},
    "items": [ITEM] * 10,
}


def run_with(tmp_path: Path, tasks: Any) -> RunFiles:
    return RunFiles("run", tmp_path, samples={"base": {"tasks": tasks}, "instruct": {"tasks": tasks}})


def test_a_task_before_and_after(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"exam": TASK})
    final = {**METRICS, "exam/accuracy": {"value": 0.75, "stderr": None, "n": 100}}
    final["exam/contamination"] = {"value": 0.25, "stderr": None, "n": 100}
    facts = Facts(metrics={"base": METRICS, "instruct": final})
    (task,) = benchmarks.benchmarks(run, facts)
    assert task["kind"] == "multiple choice"
    assert [(row["metric"], row["group"], row["n"]) for row in task["rows"]] == [
        ("accuracy", "", "100"),
        ("accuracy", "law", "100"),
    ]
    assert task["rows"][0]["values"] == ["50.0% ± 5.0", "75.0%"]
    assert task["about"][0] == "3 of 103 records could not be asked."
    assert "25.0% of the items" in task["about"][1]
    assert task["about"][2] == "bleu: nrefs:1|tok:13a"
    assert len(task["items"]) == benchmarks.ITEMS_SHOWN
    assert task["items"][0] == {"prompt": "<b>Why?</b>", "lines": ["one: -1.5, chosen", "✓ two: -2.5"]}
    shown = results.evaluation(facts, benchmarks.names(run))
    assert [row["metric"] for row in shown["metrics"]] == ["Exact match"]
    assert shown["groups"] == []


def test_a_text_that_was_written(tmp_path: Path) -> None:
    item = {"prompt": "x" * 5000, "prediction": "", "references": ["right"]}
    (task,) = benchmarks.benchmarks(run_with(tmp_path, {"said": {"items": [item]}}), Facts(metrics={"base": METRICS}))
    assert task["items"][0]["lines"] == ["(nothing)", "expected: right"]
    assert len(task["items"][0]["prompt"]) == benchmarks.PROMPT_CHARACTERS


def test_whatever_a_file_holds(tmp_path: Path) -> None:
    for tasks in (
        None,
        [],
        {"a": None},
        {"a": {"items": [None, {}], "records": 3, "signatures": 1}},
        {"a": {"items": 1}},
    ):
        for found in benchmarks.benchmarks(run_with(tmp_path, tasks), Facts()):
            assert found["rows"] == []
