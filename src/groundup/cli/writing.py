"""The verbs that write files: import, convert, report, deploy."""

from __future__ import annotations

import argparse
from pathlib import Path

from groundup.cli import rooms
from groundup.cli.output import figures_of, show, show_json
from groundup.cli.parser import RECIPE_SUFFIXES, recipe_of, words_of
from groundup.errors import RecipeError


def import_model(options: argparse.Namespace) -> None:
    """import: a model from elsewhere becomes a model folder."""
    words = words_of(options, "a model (Hugging Face folder or .gguf file) and the folder to write")
    if len(words) < 2 or "=" in words[1]:
        raise RecipeError("groundup import: give a model (Hugging Face folder or .gguf file) and the folder to write")
    source, folder, *overrides = words
    config, export = rooms.room("config"), rooms.room("export")
    settings = config.build(export.ExportConfig, config.apply_overrides({}, overrides), "options")
    tokenizer = None if options.tokenizer is None else Path(options.tokenizer)
    adapter = None if options.adapter is None else Path(options.adapter)
    done = export.import_model(
        source, folder, settings, tokenizer, chat_template=options.chat_template, adapter=adapter
    )
    if options.json:
        show_json({"model": folder, **done})
        return
    show(f"{done['parameters']:,} parameters, {done['vocab_size']:,} tokens ({done['rows_in_file']:,} in the file)")
    show(f"model:  {folder}")


def import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokenizer", metavar="PATH", help="take this tokenizer, file or folder, not the model's")
    parser.add_argument("--chat-template", choices=("auto", "own"), default="auto", help="its own if any, or ours")
    parser.add_argument("--adapter", metavar="FOLDER", help="merge this LoRA or DoRA folder, as peft saves them")


def convert(options: argparse.Namespace) -> None:
    """convert: public data in another form to JSON lines."""
    words = words_of(options, "a form (squad, parallel, dialogues), files and the file to write")
    if len(words) < 3:
        raise RecipeError("groundup convert: give a form (squad, parallel, dialogues), files and the file to write")
    conversion = rooms.room("conversion")
    settings = conversion.Options(turns=options.turns, no_answer=options.no_answer)
    account = conversion.convert(words[0], words[1:-1], words[-1], settings).as_dict()
    if options.json:
        show_json({"output": words[-1], **account})
        return
    show(f"{words[-1]}: {account['accepted']:,} of {account['total']:,} records")
    for reason, count in account["rejected"].items():
        show(f"  left out: {count:,}: {reason}")


def convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", action="store_true", help="dialogues: a record per turn of the assistant")
    parser.add_argument("--no-answer", metavar="TEXT", default="", help="squad: the answer where there is none")


def report(options: argparse.Namespace) -> None:
    """report: the page of a run, by recipe or by the run's folder."""
    path = Path(words_of(options, "a recipe or a run's folder")[0])
    folder = rooms.room("pipeline").run_folder(recipe_of(options)) if path.suffix in RECIPE_SUFFIXES else path
    page = rooms.room("report").build_report(folder)
    if options.json:
        show_json({"report": str(page), **figures_of(folder)})
    else:
        show(str(page))


def deploy(options: argparse.Namespace) -> None:
    """deploy: the file with which a scheduler starts the recipe on a cluster; nothing is started."""
    deployment, recipe = rooms.room("deployment"), recipe_of(options)
    if options.target not in deployment.TARGETS or options.until not in options.training_verbs:
        verbs = ", ".join(options.training_verbs)
        raise RecipeError(f"groundup deploy: give --for {'|'.join(deployment.TARGETS)}, and --until one of {verbs}")
    path, *overrides = options.words
    job = deployment.job_of(recipe, options.until, path, overrides)
    known = {key: vars(options)[key] for key in ("time", "partition", "account", "image", "claim", "namespace")}
    text = deployment.render(options.target, job, deployment.Cluster(**known))
    if options.output is not None:
        rooms.room("stage").write_text(Path(options.output), text)
    if options.json:
        show_json({"target": options.target, "output": options.output, "text": text})
    else:
        print(text if options.output is None else options.output, end="" if options.output is None else "\n")


def deploy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--for", dest="target", metavar="TARGET", help="slurm, kubernetes, ray or torchrun")
    parser.add_argument("--output", metavar="FILE", help="write there, not to stdout")
    parser.add_argument("--until", metavar="VERB", default="run", help="the verb that is started there (run)")
    parser.add_argument("--time", metavar="TIME", default="24:00:00", help="slurm: longest time of a job (24:00:00)")
    parser.add_argument("--partition", metavar="NAME", default="", help="slurm: queue")
    parser.add_argument("--account", metavar="NAME", default="", help="slurm: who pays")
    parser.add_argument("--image", metavar="IMAGE", default="groundup:latest", help="kubernetes: container image")
    parser.add_argument("--claim", metavar="NAME", default="groundup", help="kubernetes: volume claim of data and work")
    parser.add_argument("--namespace", metavar="NAME", default="default", help="kubernetes: namespace")
