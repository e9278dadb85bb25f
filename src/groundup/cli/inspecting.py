"""The verbs that look and tell: show, verify, tokenizer, doctor, schema."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from groundup.cli import rooms
from groundup.cli.output import show, show_json, show_stages, takes_colour
from groundup.cli.parser import RECIPE_SUFFIXES, recipe_of, words_of


def show_recipe(options: argparse.Namespace) -> None:
    """show: the resolved recipe as YAML, stages as comments behind it."""
    if options.model:
        _show_model(options)
        return
    recipe, pipeline, config = recipe_of(options), rooms.room("pipeline"), rooms.room("config")
    stages = pipeline.status(recipe)
    if options.json:
        folder = str(pipeline.run_folder(recipe))
        show_json({"recipe": config.to_dict(recipe), "run_folder": folder, "stages": stages})
        return
    show(config.to_yaml(recipe))
    show_stages(stages, "# ")


def _show_model(options: argparse.Namespace) -> None:
    """show --model: the parts of a recipe's model, or of a model folder, and how their parameters are counted."""
    target, *words = words_of(options, "a recipe or a model folder")
    anatomy = rooms.room("anatomy")
    table = anatomy.of_target(target, words)
    if options.json:
        show_json(table.as_dict())
        return
    for line in table.lines():
        show(line)


def show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="store_true",
        help="parts of the model: shape, parameters, FLOPs, memory; also of a folder",
    )


def verify(options: argparse.Namespace) -> None:
    """verify: re-hash what a path holds; prints one canonical state hash, or the list of faults (exit code 4)."""
    path, recipe = Path(words_of(options, "a stage, checkpoint, model or run folder, or a recipe")[0]), None
    if path.suffix in RECIPE_SUFFIXES and not path.is_dir():
        recipe = recipe_of(options)
        path = rooms.room("pipeline").run_folder(recipe)
    state_hash, faults = rooms.room("verification").verify_folder(path)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise rooms.room("errors").ModelFileError(f"{str(path)[-90:]}: {count}: {faults[0]}", details=faults[1:])
    of_run = (path / "recipe.yaml").is_file() and not options.hashes_only
    proofs = rooms.room("pipeline").prove_resume(path, recipe) if of_run else []
    if options.json:
        resumes = [proof.as_dict() for proof in proofs]
        show_json({"path": str(path), "state_hash": state_hash, "faults": [], "resume": resumes})
        return
    show(f"{state_hash}  {path}")
    for proof in proofs:
        show(proof.line())


def verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hashes-only", action="store_true", help="re-hash only; do not try whether it resumes")


def show_tokenizer(options: argparse.Namespace) -> None:
    """tokenizer: how a text is cut, how many tokens files need; without either, how large the vocabulary is."""
    inspection, (target, *words) = (
        rooms.room("inspection"),
        words_of(options, "a recipe, a run, or a tokenizer's file or folder"),
    )
    tokenizer, files = inspection.load_target(target, words)
    tokens = [] if options.text is None else inspection.cut(tokenizer, options.text)
    fertility = inspection.fertility_of_files(tokenizer, files) if files else {}
    if options.json:
        shown = [{"id": token.id, "text": token.text} for token in tokens]
        show_json({"vocab_size": tokenizer.vocab_size, "tokens": shown, "fertility": fertility})
        return
    show(f"{tokenizer.vocab_size:,} tokens, words cut by pattern {tokenizer.pattern or 'of its own'}")
    if tokens:
        show(f"{len(tokens)} tokens: " + "|".join(token.text.replace("\n", "\\n") for token in tokens))
        show(" ".join(str(token.id) for token in tokens))
    for line in inspection.fertility_lines(fertility) if files else ():
        show(line)


def tokenizer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", metavar="TEXT", help="show how this text is cut")


def doctor(options: argparse.Namespace) -> None:
    """doctor: every finding, with the line that mends it."""
    findings = rooms.room("doctor").examine()
    if options.json:
        healthy = all(finding.level != "problem" for finding in findings)
        show_json({"healthy": healthy, "findings": [finding.as_dict() for finding in findings]})
        return
    marks = {"ok": ("ok", 32), "note": ("note", 33), "problem": ("PROBLEM", 31)}
    for finding in findings:
        text, colour = marks[finding.level]
        mark = f"{text:<8}"
        print(f"\x1b[{colour}m{mark}\x1b[0m" if takes_colour(sys.stdout) else mark, end="")
        show(f"{finding.name:<13} {finding.value}")
        if finding.remedy and finding.level != "ok":
            show(f"{'':8}{'':13} mend it: {finding.remedy}")


def schema(options: argparse.Namespace) -> None:
    """schema: the JSON schema of recipes for editors, or their reference for people."""
    recipe = rooms.room("pipeline").Recipe
    if options.markdown:
        print(rooms.room("reference").markdown(recipe), end="")
    else:
        show_json(rooms.room("config").json_schema(recipe))


def schema_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the reference of all fields instead")
