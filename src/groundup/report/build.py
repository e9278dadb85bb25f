"""A run's folder -> report.html and report.json in it.

    read --> facts --> report.json
         \\-> sections --> page.html (Jinja2, sandboxed, escaped) + page.css + page.js --> report.html

Invariant: whatever state a run is in, there is a page; what could not be read is said on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundup.errors import DataError, resource_errors
from groundup.report import benchmarks, data, facts, results, training, tuning
from groundup.report.comparison import comparison
from groundup.report.page import rendered
from groundup.report.plain import clean
from groundup.report.read import RunFiles, read_run
from groundup.stage import write_json, write_text

PAGE, REPORT = "report.html", "report.json"


def build_report(run_folder: Path) -> Path:
    """Write report.html and report.json of a run, finished or not, into its folder; returns the page's path.

    Raises DataError when there is no such folder, ResourceError when it cannot be written.
    """
    if not run_folder.is_dir():
        raise DataError(f"{run_folder}: no such run folder; start the run first, for example `groundup run RECIPE`")
    run = read_run(run_folder)
    figures = facts.collect(run)
    with resource_errors(run_folder):
        write_json(run_folder / REPORT, clean(facts.to_json(run, figures)))
        write_text(run_folder / PAGE, render(run, figures))
    return run_folder / PAGE


def render(run: RunFiles, figures: facts.Facts) -> str:
    """The whole page as text."""
    return rendered("page.html", _content(run, figures), "page.js")


def _content(run: RunFiles, figures: facts.Facts) -> dict[str, Any]:
    unfinished = [stage for stage in run.stages if stage.state != "done"]
    finished_at = [str(stage.manifest["finished_at"]) for stage in run.stages if "finished_at" in stage.manifest]
    return {
        "name": run.name,
        "finished": run.finished,
        "finished_at": max(finished_at, default=""),
        "unfinished": [stage.name for stage in unfinished],
        "sentence": facts.sentence(figures),
        "tiles": facts.tiles(figures),
        "notes": facts.notes(run),
        "problems": run.problems,
        "corpus": data.corpus(run),
        "tokens": data.tokens(run),
        "model": training.model(run, figures),
        "training": training.training(run),
        "evaluation": results.evaluation(figures, benchmarks.names(run)),
        "changed": tuning.changed(figures),
        "choice": tuning.choice(run),
        "benchmarks": benchmarks.benchmarks(run, figures),
        "comparison": comparison(run, figures),
        "samples": results.samples(run),
        "costs": results.costs(run, figures),
        "events": results.events(run),
        "versions": sorted(figures.versions.items()),
        "recipe": run.recipe_text,
    }
