"""A run's folder -> what is in it, whatever state it is in: unfinished, cut, damaged, with a million metric lines.

    stages.json  recipe.yaml  metrics.jsonl  events.jsonl  <stage>/manifest.json
    corpus/report.json  contamination/contamination.json  fertility/report.json  lambda/lambda.json
    evaluate/evaluation.json  evaluate/samples.json
        |
        v
    RunFiles (and `problems`: each thing that could not be read, in words)

Invariant: reading never raises for what a file holds, and opens only the files named above.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import GroundupError
from groundup.log import read_lines
from groundup.report.words import number
from groundup.stage import MANIFEST

JSON_LIMIT_BYTES = 64 << 20
METRIC_LINES = 20_000
"""About so many training lines are parsed; of more, every k-th. Lines with a validation are always read."""


@dataclass(frozen=True)
class StageFiles:
    """One stage of the run: what stages.json says of it and its manifest ({} when it is not done)."""

    name: str
    state: str
    fingerprint: str
    """"" where it is not known yet."""
    folder: Path
    seconds: float | None
    summary: dict[str, Any]
    manifest: dict[str, Any]


@dataclass
class PhaseLines:
    """Metric lines of one training phase, one per step, in the order of steps."""

    training: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RunFiles:
    """Everything a report is made from."""

    name: str
    folder: Path
    stages: list[StageFiles] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_text: str = ""
    phases: dict[str, PhaseLines] = field(default_factory=dict)
    lines_read_every: int = 1
    bad_lines: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    corpus: dict[str, Any] = field(default_factory=dict)
    contamination: dict[str, Any] = field(default_factory=dict)
    fertility: dict[str, Any] = field(default_factory=dict)
    lambda_search: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def stage(self, name: str) -> StageFiles | None:
        """The stage of this name, if the run has one."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def summary(self, name: str) -> dict[str, Any]:
        """What a finished stage said of itself; {} when it is not there."""
        stage = self.stage(name)
        return stage.summary if stage else {}

    @property
    def finished(self) -> bool:
        """True when every stage is done."""
        return bool(self.stages) and all(stage.state == "done" for stage in self.stages)


def read_run(folder: Path) -> RunFiles:
    """Read what there is in a run's folder."""
    run = read_results(folder)
    _read_metrics(run)
    run.events = read_lines(folder / "events.jsonl")
    run.corpus = _stage_json(run, "corpus", "report.json")
    run.contamination = _stage_json(run, "contamination", "contamination.json")
    run.fertility = _stage_json(run, "fertility", "report.json")
    run.lambda_search = _stage_json(run, "lambda", "lambda.json")
    run.samples = _stage_json(run, "evaluate", "samples.json")
    return run


def read_results(folder: Path) -> RunFiles:
    """As `read_run`, only what a comparison needs: the stages, the recipe and the evaluation."""
    run = RunFiles(folder.name, folder)
    run.stages = [_stage(run, entry) for entry in _json(run, folder / "stages.json", list) if isinstance(entry, dict)]
    _read_recipe(run)
    run.evaluation = _stage_json(run, "evaluate", "evaluation.json")
    return run


def _stage(run: RunFiles, entry: dict[str, Any]) -> StageFiles:
    name = str(entry.get("name", "?"))
    link = run.folder / "stages" / name
    folder = link if link.is_dir() else run.folder / str(entry.get("folder", ""))
    state = str(entry.get("state", "missing"))
    manifest = _json(run, folder / MANIFEST, dict) if state == "done" else {}
    summary = entry.get("summary") or manifest.get("summary")
    seconds = number(entry.get("seconds"))
    return StageFiles(
        name,
        state,
        str(entry.get("fingerprint") or ""),
        folder,
        number(manifest.get("seconds")) if seconds is None else seconds,
        summary if isinstance(summary, dict) else {},
        manifest,
    )


def _json(run: RunFiles, path: Path, kind: type[Any]) -> Any:
    """The file's JSON when it is a `kind`, else an empty one and a word about it in `problems`."""
    shown = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > JSON_LIMIT_BYTES:
            run.problems.append(f"{shown} is longer than {JSON_LIMIT_BYTES >> 20} MB and was left out")
            return kind()
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        run.problems.append(f"{shown} is not there")
        return kind()
    except (OSError, ValueError, RecursionError):
        run.problems.append(f"{shown} cannot be read (cut, or not JSON)")
        return kind()
    if not isinstance(found, kind):
        run.problems.append(f"{shown} does not hold what it should")
        return kind()
    return found


def _stage_json(run: RunFiles, name: str, file: str) -> dict[str, Any]:
    stage = run.stage(name)
    if stage is None or stage.state != "done":
        return {}
    found: dict[str, Any] = _json(run, stage.folder / file, dict)
    return found


def _read_recipe(run: RunFiles) -> None:
    path = run.folder / "recipe.yaml"
    try:
        run.recipe_text = path.read_text(encoding="utf-8", errors="replace")[: config.RECIPE_LIMIT_BYTES]
        found = config.parse_yaml(run.recipe_text, "recipe.yaml")
    except (OSError, GroundupError, RecursionError):
        run.problems.append("recipe.yaml is not there or cannot be read")
        return
    run.recipe = found if isinstance(found, dict) else {}


def _read_metrics(run: RunFiles) -> None:
    """Fill `phases` from metrics.jsonl in one pass; of two lines for a step the later one counts (a resume)."""
    path = run.folder / "metrics.jsonl"
    try:
        with path.open("rb") as handle:
            run.lines_read_every = max(1, round(sum(1 for _ in handle) / METRIC_LINES))
            handle.seek(0)
            found = list(_parsed(run, handle))
    except OSError:
        run.problems.append("metrics.jsonl is not there, so no curve can be drawn")
        return
    steps: dict[tuple[str, bool, float], dict[str, Any]] = {}
    for record in found:
        step = number(record.get("step"))
        if step is not None:
            steps[str(record.get("phase", "pretrain")), "validation" in record, step] = record
    for (phase, validation, _), record in sorted(steps.items(), key=lambda item: item[0][2]):
        lines = run.phases.setdefault(phase, PhaseLines())
        (lines.validation if validation else lines.training).append(record)
    if run.bad_lines:
        run.problems.append(f"metrics.jsonl: {run.bad_lines} lines are cut or no JSON and were left out")


def _parsed(run: RunFiles, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for index, line in enumerate(lines):
        if index % run.lines_read_every and b'"validation"' not in line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            run.bad_lines += bool(line.strip())
            continue
        if isinstance(record, dict):
            yield record
        else:
            run.bad_lines += 1
