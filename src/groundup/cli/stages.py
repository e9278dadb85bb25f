"""The verbs that bring a recipe up to a stage: run, prepare, pretrain, instruct, task, evaluate, export.

recipe -> one process, or several ranks of the same command -> pipeline.run -> stages and figures on stdout
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from groundup.cli import rooms
from groundup.cli.failure import ending
from groundup.cli.output import figures_of, near, show, show_json, show_stages
from groundup.cli.parser import recipe_of, words_of
from groundup.errors import RecipeError


def run(options: argparse.Namespace) -> None:
    """run, prepare, pretrain, instruct, task, evaluate, export: bring the recipe up to the verb's stage."""
    pipeline, recipe = rooms.room("pipeline"), recipe_of(options)
    trains = options.verb in options.training_verbs
    place = rooms.room("launcher").place() if trains else None
    if place is None and trains and recipe.runtime.ranks > 1:
        _start_ranks(options, recipe)
        return
    ranks = None if place is None or place.world_size == 1 else _meet(place, recipe.runtime.parallel)
    launcher, until = rooms.room("launcher"), pipeline.VERBS[options.verb]
    faults, restart = launcher.requested_faults(), launcher.restart_cause(place)
    result = pipeline.run(recipe, until=until, faults=faults, ranks=ranks, restart=restart, end=ending(options))
    if ranks is not None and not ranks.leads:
        return
    figures = figures_of(result.folder)
    model = None if result.model_folder is None else str(result.model_folder)
    if options.json:
        paths = {"run_folder": str(result.folder), "report": str(result.folder / "report.html"), "model": model}
        show_json({"name": result.name, **paths, "stages": result.stages, "figures": figures})
        return
    show_stages(result.stages)
    for line in rooms.room("report").key_figures(figures):
        show(line)
    show(f"report: {near(result.folder / 'report.html')}")
    if model:
        show(f"model:  {near(Path(model))}")
        # The recipe alone names this run only where nothing was changed on the command line.
        target = options.words[0] if len(options.words) == 1 else str(near(result.folder))
        show(f"ask it: groundup {_question(Path(model), target)}")


def _start_ranks(options: argparse.Namespace, recipe: Any) -> None:
    """The same command as several processes of this machine, with those of others where the recipe says where to meet.

    Raises RecipeError when it is about several machines and does not.
    """
    runtime, torchrun, run_folder = recipe.runtime, rooms.room("torchrun"), rooms.room("pipeline").run_folder(recipe)
    if runtime.nodes > 1 and not runtime.rendezvous:
        raise RecipeError(
            f"runtime.nodes is {runtime.nodes}: say where they meet, runtime.rendezvous=FIRST_HOST:29500, and start the"
            " command on each of them; or let torchrun start it there"
        )
    endpoint = runtime.rendezvous if runtime.nodes > 1 else ""
    meeting = torchrun.Meeting(recipe.name, runtime.nodes, runtime.fewest_nodes, endpoint)
    events = run_folder / "events.jsonl"
    end = ending(options)
    torchrun.start(options.given, runtime.devices, meeting, restarts=runtime.restarts, events=events, lost=end)


def _meet(place: Any, layout: Any) -> Any:
    """The ranks of a run, as torchrun started them, this one among them."""
    parallel = rooms.room("parallel")
    told = {key: value for key, value in vars(place).items() if key != "reports"}
    return parallel.Ranks(parallel.Rank(**told), layout)


def _question(model: Path, target: str) -> str:
    """How the model of a run is asked: for labels, for what a gap hides, or for an answer."""
    if (model / "task").is_dir():
        return f'predict {target} --text "..."'
    if (model / "config.json").is_file() and not (model / "chat_template.jinja").is_file():
        return f'generate {target} --fill-mask "The [MASK] ..."'
    return f'chat {target} "..."'


def prepare(options: argparse.Namespace) -> None:
    """prepare; with --explain: what happened to one record, and nothing is prepared."""
    if options.explain is None:
        run(options)
        return
    told = rooms.room("pipeline").explain(recipe_of(options), options.explain)
    if options.json:
        show_json(told)
        return
    for line in rooms.room("corpus").lines_of(told):
        show(line)


def prepare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", metavar="DOCUMENT_ID", help="prepare nothing: say what happened to source/file:number"
    )


def evaluate(options: argparse.Namespace) -> None:
    """evaluate: up to that stage; with --tasks or --text a model as it is, of a recipe, run or folder."""
    target, *words = words_of(options, "a recipe, run or model folder")
    if options.tasks is None and not options.text:
        if Path(target).is_dir():
            raise RecipeError(
                f"{str(target)[-80:]}: of a model folder say what to measure: --tasks TASKS.yaml, or --text FILE"
            )
        run(options)
        return
    scoring, talk = rooms.room("scoring"), rooms.room("talk")
    model, overrides = talk.load_target(target, words)
    settings = scoring.read_tasks(options.tasks, overrides)
    found = scoring.score(model, settings, options.text or ())
    if options.output is not None:
        scoring.write(found, Path(options.output))
    if options.json:
        show_json({"target": target, "metrics": found.metrics_dict()})
        return
    for line in scoring.lines(found):
        show(line)


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", metavar="FILE", help="YAML with `tasks:`; measure these on the model as it is")
    parser.add_argument("--text", metavar="FILE", action="append", help="bits per byte of this text; several times")
    parser.add_argument("--output", metavar="FOLDER", help="write evaluation.json and samples.json there")
