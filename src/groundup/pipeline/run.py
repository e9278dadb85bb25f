"""Bring a recipe to done, stage by stage, and keep the run folder that people look at.

    runs/<name>/   recipe.yaml  stages.json  metrics.jsonl  events.jsonl  report.html  report.json
                   stages/<stage> -> the stage's folder      model -> the exported model

Of several ranks the first brings the stages and keeps the folder; the others only train with it, at its word.
Invariant: the run folder can be rebuilt from the stages alone; deleting it loses nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup import config, stage, tokens
from groundup.corpus.reading.files import find_files
from groundup.errors import GroundupError, ModelFileError, RecipeError, ResourceError, resource_errors
from groundup.locks import lock
from groundup.log import dispensable, logger
from groundup.models import DecoderConfig, layout_of
from groundup.parallel import Ranks, check_layout, contact, float8
from groundup.pipeline import changes
from groundup.pipeline.adapters import require_tune
from groundup.pipeline.benchmarks import require_tasks
from groundup.pipeline.context import Context
from groundup.pipeline.following import canonical, follow
from groundup.pipeline.recipe import Recipe, check_layouts
from groundup.pipeline.stages import StageKind, listed
from groundup.pipeline.start import require_start
from groundup.report import build_report
from groundup.train.faults import parse_faults
from groundup.train.guards import StopRequest
from groundup.train.journal import publish
from groundup.train.watchdog import end_at_once
from groundup.train.way import pick_device

VERBS: dict[str, str] = {
    "prepare": "questions",
    "pretrain": "pretrain",
    "instruct": "instruct",
    "task": "task",
    "evaluate": "evaluate",
    "export": "export",
    "run": "export",
}
"""Verb -> the last stage that it brings to done."""
PREPARED = ("shards", "conversations", "questions", "examples", "comparisons")
"""Stages that make what is trained and measured on."""
TRAINED = ("pretrain", "lambda", "instruct", "preferences", "task")
"""Stages that write a line per step, or an event."""


@dataclass(frozen=True)
class RunResult:
    """What `run` leaves behind."""

    name: str
    folder: Path
    model_folder: Path | None
    stages: list[dict[str, Any]]


def workdir(recipe: Recipe) -> Path:
    """Absolute folder of stages and runs."""
    return Path(recipe.runtime.workdir).absolute()


def run_folder(recipe: Recipe) -> Path:
    """The folder of this run, for people."""
    return workdir(recipe) / "runs" / recipe.name


def run(
    recipe: Recipe,
    until: str = "export",
    faults: str = "",
    ranks: Ranks | None = None,
    restart: Mapping[str, Any] | None = None,
    end: Callable[[GroundupError], Any] = end_at_once,
) -> RunResult:
    """Every stage up to `until`, in order, going on from what is there; then the report.

    `faults`: what is to go wrong (train.faults), which only a recipe with `runtime.test_faults` may ask for.
    `ranks`: the processes that train, of which this is one; each of them calls this with the same recipe.
    `restart`: why these were started again, for the events. `end(error)`: ends a process that hangs.
    Raises the errors of the stages; what was finished before stays. A second run of the same name gets LockedError.
    """
    wanted_faults = parse_faults(faults)
    if wanted_faults and not recipe.runtime.test_faults:
        raise RecipeError("FAULT is set, which breaks runs on purpose; unset it, or set runtime.test_faults=true")
    folder = run_folder(recipe)
    with resource_errors(folder), contact(ranks), StopRequest().installed() as stop:
        if ranks is not None and not ranks.leads:
            follow(Context(recipe, folder, stop, faults=wanted_faults, ranks=ranks, restart=restart, end=end))
            ranks.leave()
            return RunResult(recipe.name, folder, None, [])
        _make(folder)
        with lock(folder.with_name(folder.name + ".lock")):
            colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
            context = Context(recipe, folder, stop, colour, faults=wanted_faults, ranks=ranks, restart=restart, end=end)
            _refresh(context)
            with dispensable(folder / "recipe.yaml"):
                stage.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
            _require(recipe, until, ranks)
            _tell(ranks, {"recipe": canonical(recipe)})
            try:
                _bring_all(context, until)
            finally:
                _refresh(context)
            with dispensable(folder / "report.html"):
                build_report(folder)
            _tell(ranks, {"end": until})
    if ranks is not None:
        ranks.leave()
    return RunResult(recipe.name, folder, _model_folder(folder), status(recipe))


def _tell(ranks: Ranks | None, word: dict[str, Any]) -> None:
    if ranks is not None:
        ranks.say(word)


def _require(recipe: Recipe, until: str, ranks: Ranks | None) -> None:
    """Raise, before any work is done, when something that a late stage asks for cannot be had."""
    if until != VERBS["prepare"]:
        _require_ranks(recipe, ranks)
        _require_precision(recipe)
        pick_device(recipe.runtime)
    _require_sources(recipe)
    tokens.require_tokenizer(recipe.tokenizer)
    require_start(recipe.pretrain.from_, recipe.tokenizer.path)
    recipe.model.require_trainable()
    require_tune(recipe)
    require_tasks(recipe)
    if until == VERBS["export"] and isinstance(recipe.model, DecoderConfig):
        _require_layout(recipe.model)


def _require_layout(model: DecoderConfig) -> None:
    """Raise RecipeError when the model can be trained, but not be written as other engines read it."""
    try:
        layout_of(model)
    except ModelFileError as error:
        raise RecipeError(f"model: {error.message}; change it, or stop at `evaluate`") from None


def _require_ranks(recipe: Recipe, ranks: Ranks | None) -> None:
    """Raise RecipeError when the processes that were started are not those that the recipe asks for."""
    wanted, started = recipe.runtime.world_sizes, ranks.place.world_size if ranks is not None else 1
    if started not in wanted and wanted != (1,):
        sizes = " or ".join(str(size) for size in sorted(wanted))
        raise RecipeError(
            f"runtime.devices x runtime.nodes is {sizes}, but this is one of {started} processes; the command starts"
            " them itself, or torchrun; or leave both out"
        )
    if ranks is None:  # where there are several, they have looked already
        check_layout(recipe.runtime.parallel.model_copy(update={"shard": 0}), started)
    check_layouts(recipe, started)


def _require_sources(recipe: Recipe) -> None:
    """Raise DataError when files of conversations, preferences or labelled records are not there."""
    for section in (recipe.instruct, recipe.preferences, recipe.task):
        for source in (*section.sources, *section.heldout) if section is not None else ():
            find_files(source.path, Path.cwd())


def _require_precision(recipe: Recipe) -> None:
    """Raise ResourceError when this machine does not compute in a phase's precision."""
    phases = (recipe.pretrain, recipe.instruct, recipe.preferences, recipe.task)
    if any(phase is not None and phase.precision == "fp8" for phase in phases):
        float8.require(pick_device(recipe.runtime))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise ResourceError(
            f"{str(folder)[-80:]}: the folder cannot be made ({error.strerror}); set runtime.workdir to another place"
        ) from None


def prepare(recipe: Recipe) -> RunResult:
    """Everything before training: documents, tokenizer, shards, conversations."""
    return run(recipe, until=VERBS["prepare"])


def pretrain(recipe: Recipe) -> RunResult:
    """Up to and including pretraining."""
    return run(recipe, until=VERBS["pretrain"])


def instruct(recipe: Recipe) -> RunResult:
    """Up to and including instruction tuning."""
    return run(recipe, until=VERBS["instruct"])


def _bring_all(context: Context, until: str) -> None:
    kinds = listed(context.recipe)
    names = [kind.name for kind in kinds]
    last = names.index(until) if until in names and until != VERBS["prepare"] else _last_before(until, names)
    for kind in kinds[: last + 1]:
        context.stop.answer()
        _bring(context, kind)


def _last_before(until: str, names: Sequence[str]) -> int:
    """Index of the last stage of preparing; an error when the recipe has no other `until`."""
    if until == VERBS["prepare"]:
        return max(index for index, name in enumerate(names) if name in PREPARED)
    raise RecipeError(
        f"the recipe has no '{until}:' section, so there is nothing to {until}; add it or use another verb"
    )


def _bring(context: Context, kind: StageKind) -> None:
    wanted = kind.stage(context)
    root = workdir(context.recipe)
    known = stage.finished(wanted, root) is not None
    if not known:
        logger.info(f"{kind.name}: {wanted.fingerprint}")
    if kind.name in TRAINED and not known:
        changes.refuse_changed(context.run_folder, wanted, root)
    if not known and context.recipe.runtime.verify_inputs:
        changes.require_intact(context.done[name] for name in kind.needs if name not in context.intact)
        context.intact.update(kind.needs)
    context.working_on = wanted
    runtime = config.to_dict(context.recipe.runtime)
    context.done[kind.name] = stage.bring(wanted, root, lambda work: kind.build(context, work), runtime)
    found = context.done[kind.name]
    if not known:  # its files were hashed just now
        context.intact.add(kind.name)
    changes.forget(context.run_folder, kind.name)
    logger.info(f"{kind.name}: {'already done' if known else 'done'} ({found.seconds:.1f} s)")
    with dispensable(context.run_folder / "stages" / kind.name):
        _link(context.run_folder / "stages" / kind.name, found.path)
    _tell(context.ranks, {"done": kind.name, "folder": str(found.path)})


def _refresh(context: Context) -> None:
    """Bring the run folder's lists up to what the stages hold now."""
    entries = status(context.recipe)
    with dispensable(context.run_folder / "stages.json"):
        stage.write_json(context.run_folder / "stages.json", entries)
    trained = [Path(entry["folder"]) for entry in entries if entry["name"] in TRAINED]
    partial = [path.with_name(path.name + ".partial") for path in trained]
    publish([path for pair in zip(trained, partial) for path in pair], context.run_folder)
    if "export" in context.done:
        _link(context.run_folder / "model", context.folder("export"))


def _link(link: Path, target: Path) -> None:
    """Make `link` point to `target` (relatively, so that the work folder can be moved)."""
    link.parent.mkdir(parents=True, exist_ok=True)
    # From where the link really lies: `runs` may itself be a link to another disk.
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    if link.is_symlink() and os.readlink(link) == relative:
        return
    temporary = link.with_name(link.name + ".tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(relative)
    os.replace(temporary, link)


def _model_folder(folder: Path) -> Path | None:
    model = folder / "model"
    return model if model.exists() else None


def status(recipe: Recipe) -> list[dict[str, Any]]:
    """Each stage: {name, state: done | partial | missing, fingerprint, folder, seconds, summary}.

    A stage behind an unfinished one has no fingerprint yet ("missing", folder of its name only).
    """
    context = Context(recipe, run_folder(recipe), StopRequest())
    root = workdir(recipe)
    entries: list[dict[str, Any]] = []
    for kind in listed(recipe):
        if any(name not in context.done for name in kind.needs):
            entries.append(
                {"name": kind.name, "state": "missing", "fingerprint": None, "folder": str(root / "stages" / kind.name)}
            )
            continue
        wanted = kind.stage(context)
        found = stage.finished(wanted, root)
        folder = wanted.folder(root)
        entry: dict[str, Any] = {"name": kind.name, "fingerprint": wanted.fingerprint, "folder": str(folder)}
        if found is not None:
            context.done[kind.name] = found
            entry |= {"state": "done", "seconds": found.seconds, "summary": dict(found.summary)}
        else:
            entry["state"] = "partial" if folder.with_name(folder.name + ".partial").exists() else "missing"
        entries.append(entry)
    return entries
