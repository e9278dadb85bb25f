"""The command `groundup VERB ...`: arguments in, one verb done, results on stdout, an exit code out.

    argv -> verb (its own parser) -> handler -> result -> text, or one JSON object with --json
                                        \\-> GroundupError -> one line on stderr, its exit code

Rooms are imported by name when a verb needs them (`_room`), so that `--help` starts at once. Invariant: results go to
stdout and nothing else does; whatever a user can cause ends in one line and a documented exit code, never in a trace.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from groundup.errors import (
    EXIT_CODES,
    GroundupError,
    LostRankError,
    RecipeError,
    first_line,
    printable,
    resource_errors,
)
from groundup.log import ERRORS_ONLY, configure, finite

RECIPE_SUFFIXES = (".yaml", ".yml")
CHAT_HELP = "Type a question. /reset forgets the conversation, /quit (or Ctrl-D) ends it, Ctrl-C stops an answer."


@dataclass(frozen=True)
class Verb:
    """One verb: its usage behind the name, its line of help, what it does, and what tells its options apart."""

    usage: str
    summary: str
    handler: Callable[[argparse.Namespace], None]
    options: str = ""
    trains: bool = False


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are RecipeErrors, so that they end like every other error."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (-\S+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        close = difflib.get_close_matches(unknown[1].split("=")[0], known, n=1) if unknown else []
        hint = f"did you mean {close[0]}?" if close else f"see `{self.prog} --help`"
        raise RecipeError(f"{self.prog}: {message}; {hint}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Never raises for what a user, a signal or a closed pipe causes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose, as_json = "-v" in given or "--verbose" in given, "--json" in given
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with resource_errors(Path()):
            _dispatch(given, in_process=arguments is not None)
            if sys.stdout is not None:
                sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader had enough (`| head`). Point stdout elsewhere, or Python complains when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except GroundupError as error:
        return _fail(error, error.exit_code, verbose, as_json)
    except KeyboardInterrupt:
        return _fail(GroundupError("interrupted; the same command goes on from what is finished"), 130, False, as_json)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            message = "out of memory: lower runtime.micro_batch_rows or the model's size, or free memory"
            return _fail(GroundupError(message), 6, verbose, as_json)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f"unexpected error, a fault of Groundup: {what}"
        remedy = "please report it with the lines below and the output of `groundup doctor`"
        return _fail(GroundupError(message, details=[remedy]), 1, True, as_json)


def _fail(error: GroundupError, exit_code: int, with_trace: bool, as_json: bool) -> int:
    """Say on stderr what is wrong (with --json also on stdout) and return `exit_code`; of several ranks one says it."""
    line = first_line(error)
    details = [printable(detail) for detail in (*error.message.split("\n")[1:], *error.details)]
    if (place := _room("launcher").place()) is not None:
        if place.reports is not None:
            trace = traceback.format_exc().splitlines() if with_trace else []
            _leave_words(place, error, exit_code, line, [*details, *trace])
            return exit_code
        if place.rank and (isinstance(error, LostRankError) or exit_code in (75, 130)):
            return exit_code
    if sys.stderr is not None:
        label = "groundup:" if place is None else f"groundup (rank {place.rank}):"
        print(f"\x1b[31m{label}\x1b[0m" if _colour(sys.stderr) else label, line, file=sys.stderr)
        for detail in details:
            print(f"  {detail}", file=sys.stderr)
        if with_trace:
            print(printable(traceback.format_exc()), end="", file=sys.stderr)
    if as_json:
        kind = EXIT_CODES.get(exit_code, "unexpected")
        _show_json({"error": {"exit_code": exit_code, "kind": kind, "message": line, "details": details}})
    return exit_code


def _leave_words(place: Any, error: GroundupError, exit_code: int, line: str, details: list[str]) -> None:
    """How this rank failed, for the command that started it (`torchrun.LastWords`)."""
    words = {"exit_code": exit_code, "message": line, "details": details, "seconds": time.monotonic()}
    path, again = place.reports / f"{place.rank}.json", error.another_start_may_help or exit_code == 1
    words |= {"follows": isinstance(error, LostRankError), "again": again}
    path.write_text(json.dumps(words), encoding="utf-8")


def _ending(options: argparse.Namespace) -> Callable[[GroundupError], None]:
    """How this process ends where it cannot return to `main`: it says why, as ever, and is gone."""

    def end(error: GroundupError) -> None:
        code = _fail(error, error.exit_code, options.verbose > 0, options.json)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)

    return end


def _colour(stream: Any) -> bool:
    return (
        stream is not None
        and bool(stream.isatty())
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def _room(name: str) -> Any:
    """A room of the package, imported when it is needed."""
    return importlib.import_module(f"groundup.{name}")


def _show(text: str = "") -> None:
    print(printable(text))


def _show_json(value: Any) -> None:
    print(json.dumps(finite(value), ensure_ascii=True, indent=1, default=str))


def _dispatch(given: list[str], in_process: bool) -> None:
    if not given or given[0] in ("-h", "--help", "help"):
        _show(_help())
        return
    if given[0] in ("-V", "--version"):
        _show(f"groundup {_room('doctor').version_of('groundup')}")
        return
    verb = VERBS.get(given[0])
    if verb is None:
        close = difflib.get_close_matches(given[0], VERBS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"verbs: {', '.join(VERBS)}"
        raise RecipeError(f"'{given[0][:40]}' is no verb; {hint}")
    options = _parser(given[0], verb).parse_intermixed_args(given[1:])
    options.verb, options.given = given[0], given
    launcher = _room("launcher")
    place = launcher.place() if verb.trains else None
    configure(options.verbose - options.quiet if place is None or place.rank == 0 else ERRORS_ONLY)
    if place is not None:
        launcher.end_with_parent()
    if not in_process:
        if verb.trains:
            launcher.restart_with_allocator(given)
            launcher.settle_warnings()
        launcher.settle_threads()
    verb.handler(options)


def _parser(name: str, verb: Verb) -> _Parser:
    """The parser of one verb; recipe, folder, overrides and prompts are told apart by the handler."""
    usage = f"groundup {name} {verb.usage} [--json] [-v | -q]"
    parser = _Parser(prog=f"groundup {name}", usage=usage, description=verb.summary, allow_abbrev=False)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more on stderr, with traces of errors")
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings on stderr")
    if verb.options == "generation":
        parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
        parser.add_argument("--temperature", type=float, metavar="T", help="0: the most likely token; higher: bolder")
        parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens (0: all)")
        parser.add_argument("--top-p", type=float, metavar="P", help="draw from tokens of this share of probability")
        parser.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: less repetition")
        parser.add_argument("--seed", type=int, metavar="S", help="start of the random numbers")
    if verb.options == "generation" and name == "generate":
        parser.add_argument(
            "--fill-mask", metavar="TEXT", help="fill each [MASK] of a text (encoders), --top-k of each"
        )
    if verb.options == "prediction":
        parser.add_argument("--text", metavar="TEXT", action="append", help="a text; may be given several times")
        parser.add_argument("--pair", metavar="TEXT", help="the second text; of spans, the question")
        parser.add_argument("--file", metavar="FILE", help="records (JSON lines, CSV, ...), or a .txt of lines")
        parser.add_argument("--text-field", metavar="F", default="text", help="field of the text in the file's records")
        parser.add_argument("--pair-field", metavar="F", default="", help="field of the second text, or the question")
    if verb.options == "evaluation":
        parser.add_argument("--tasks", metavar="FILE", help="YAML with `tasks:`; measure these on the model as it is")
        parser.add_argument("--text", metavar="FILE", action="append", help="bits per byte of this text; several times")
        parser.add_argument("--output", metavar="FOLDER", help="write evaluation.json and samples.json there")
    if verb.options == "conversion":
        parser.add_argument("--turns", action="store_true", help="dialogues: a record per turn of the assistant")
        parser.add_argument("--no-answer", metavar="TEXT", default="", help="squad: the answer where there is none")
    if verb.options == "comparison":
        _comparison_options(parser)
    if verb.options == "explain":
        parser.add_argument(
            "--explain", metavar="DOCUMENT_ID", help="prepare nothing: say what happened to source/file:number"
        )
    if verb.options == "tokenizer":
        parser.add_argument("--text", metavar="TEXT", help="show how this text is cut")
    if verb.options == "import":
        parser.add_argument("--tokenizer", metavar="PATH", help="take this tokenizer, file or folder, not the model's")
        parser.add_argument("--chat-template", choices=("auto", "own"), default="auto", help="its own if any, or ours")
        parser.add_argument("--adapter", metavar="FOLDER", help="merge this LoRA or DoRA folder, as peft saves them")
    if verb.options == "model":
        parser.add_argument(
            "--model",
            action="store_true",
            help="parts of the model: shape, parameters, FLOPs, memory; also of a folder",
        )
    if verb.options == "verify":
        parser.add_argument("--hashes-only", action="store_true", help="re-hash only; do not try whether it resumes")
    if verb.options == "deployment":
        _deployment_options(parser)
    if verb.options == "markdown":
        parser.add_argument("--markdown", action="store_true", help="print the reference of all fields instead")
    return parser


def _deployment_options(parser: _Parser) -> None:
    parser.add_argument("--for", dest="target", metavar="TARGET", help="slurm, kubernetes, ray or torchrun")
    parser.add_argument("--output", metavar="FILE", help="write there, not to stdout")
    parser.add_argument("--until", metavar="VERB", default="run", help="the verb that is started there (run)")
    parser.add_argument("--time", metavar="TIME", default="24:00:00", help="slurm: longest time of a job (24:00:00)")
    parser.add_argument("--partition", metavar="NAME", default="", help="slurm: queue")
    parser.add_argument("--account", metavar="NAME", default="", help="slurm: who pays")
    parser.add_argument("--image", metavar="IMAGE", default="groundup:latest", help="kubernetes: container image")
    parser.add_argument("--claim", metavar="NAME", default="groundup", help="kubernetes: volume claim of data and work")
    parser.add_argument("--namespace", metavar="NAME", default="default", help="kubernetes: namespace")


def _comparison_options(parser: _Parser) -> None:
    parser.add_argument("--prompts", metavar="FILE", help="records with prompt, or messages; else held-out questions")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="evenly spread prompts (100; 0: all)")
    parser.add_argument("--out", metavar="FILE", default="comparison.html", help="the page (comparison.html)")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="longest answer (128)")
    parser.add_argument("--judge", metavar="URL", help="base address of an OpenAI-compatible server that judges")
    parser.add_argument("--judge-model", metavar="NAME", help="the model it is asked for")
    parser.add_argument("--judge-key-file", metavar="FILE", help="file that holds the server's key")
    parser.add_argument("--judge-key-env", metavar="NAME", help="environment variable that holds it")
    parser.add_argument("--judge-timeout", type=float, metavar="SECONDS", help="longest wait for a reply (120)")
    parser.add_argument("--judge-attempts", type=int, metavar="N", help="tries of a request (5)")
    parser.add_argument("--people", metavar="FILE", help="verdicts of people: records of id (or prompt) and verdict")


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    codes = textwrap.fill("Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()), 118)
    return f"""\
usage: groundup VERB RECIPE [key.path=value ...] [--json] [-v | -q]

One recipe takes raw text to a language model that one can chat with. Every verb brings what it needs to done and goes
on from what is finished.

{verbs}

Try:  groundup run recipes/smoke.yaml
      groundup run recipes/atlas.yaml pretrain.tokens=500000 name=shorter
      groundup chat recipes/atlas.yaml "What is the capital of France?"

A value comes from the defaults, then the recipe, then key.path=value. Results go to stdout, logs to stderr.
`groundup VERB --help` tells a verb's options.

{codes}"""


def _recipe(options: argparse.Namespace) -> Any:
    """The recipe named first, with the overrides behind it."""
    path, *overrides = _words(options, "a recipe, for example recipes/smoke.yaml")
    return _room("pipeline").load_recipe(path, overrides)


def _words(options: argparse.Namespace, wanted: str) -> list[str]:
    words: list[str] = options.words
    if not words:
        raise RecipeError(f"groundup {options.verb}: give {wanted}; see `groundup {options.verb} --help`")
    return words


def _run(options: argparse.Namespace) -> None:
    """run, prepare, pretrain, instruct, task, evaluate, export: bring the recipe up to the verb's stage."""
    pipeline, recipe = _room("pipeline"), _recipe(options)
    place = _room("launcher").place() if VERBS[options.verb].trains else None
    if place is None and VERBS[options.verb].trains and recipe.runtime.ranks > 1:
        _start_ranks(options, recipe)
        return
    ranks = None if place is None or place.world_size == 1 else _meet(place, recipe.runtime.parallel)
    launcher, until = _room("launcher"), pipeline.VERBS[options.verb]
    faults, restart = launcher.requested_faults(), launcher.restart_cause(place)
    result = pipeline.run(recipe, until=until, faults=faults, ranks=ranks, restart=restart, end=_ending(options))
    if ranks is not None and not ranks.leads:
        return
    figures = _figures(result.folder)
    model = None if result.model_folder is None else str(result.model_folder)
    if options.json:
        paths = {"run_folder": str(result.folder), "report": str(result.folder / "report.html"), "model": model}
        _show_json({"name": result.name, **paths, "stages": result.stages, "figures": figures})
        return
    _show_stages(result.stages)
    for line in _room("report").key_figures(figures):
        _show(line)
    _show(f"report: {_near(result.folder / 'report.html')}")
    if model:
        _show(f"model:  {_near(Path(model))}")
        _show(f"ask it: groundup {_question(Path(model), options.words[0])}")


def _start_ranks(options: argparse.Namespace, recipe: Any) -> None:
    """The same command as several processes of this machine, with those of others where the recipe says where to meet.

    Raises RecipeError when it is about several machines and does not.
    """
    runtime, torchrun, run_folder = recipe.runtime, _room("torchrun"), _room("pipeline").run_folder(recipe)
    if runtime.nodes > 1 and not runtime.rendezvous:
        raise RecipeError(
            f"runtime.nodes is {runtime.nodes}: say where they meet, runtime.rendezvous=FIRST_HOST:29500, and start the"
            " command on each of them; or let torchrun start it there"
        )
    endpoint = runtime.rendezvous if runtime.nodes > 1 else ""
    meeting = torchrun.Meeting(recipe.name, runtime.nodes, runtime.fewest_nodes, endpoint)
    events = run_folder / "events.jsonl"
    end = _ending(options)
    torchrun.start(options.given, runtime.devices, meeting, restarts=runtime.restarts, events=events, lost=end)


def _meet(place: Any, layout: Any) -> Any:
    """The ranks of a run, as torchrun started them, this one among them."""
    parallel = _room("parallel")
    told = {key: value for key, value in vars(place).items() if key != "reports"}
    return parallel.Ranks(parallel.Rank(**told), layout)


def _evaluate(options: argparse.Namespace) -> None:
    """evaluate: up to that stage; with --tasks or --text a model as it is, of a recipe, run or folder."""
    target, *words = _words(options, "a recipe, run or model folder")
    if options.tasks is None and not options.text:
        if Path(target).is_dir():
            raise RecipeError(
                f"{str(target)[-80:]}: of a model folder say what to measure: --tasks TASKS.yaml, or --text FILE"
            )
        _run(options)
        return
    scoring, talk = _room("scoring"), _room("talk")
    model, overrides = talk.load_target(target, words)
    settings = scoring.read_tasks(options.tasks, overrides)
    found = scoring.score(model, settings, options.text or ())
    if options.output is not None:
        scoring.write(found, Path(options.output))
    if options.json:
        _show_json({"target": target, "metrics": found.metrics_dict()})
        return
    for line in scoring.lines(found):
        _show(line)


def _convert(options: argparse.Namespace) -> None:
    """convert: public data in another form to JSON lines."""
    words = _words(options, "a form (squad, parallel, dialogues), files and the file to write")
    if len(words) < 3:
        raise RecipeError("groundup convert: give a form (squad, parallel, dialogues), files and the file to write")
    conversion = _room("conversion")
    settings = conversion.Options(turns=options.turns, no_answer=options.no_answer)
    account = conversion.convert(words[0], words[1:-1], words[-1], settings).as_dict()
    if options.json:
        _show_json({"output": words[-1], **account})
        return
    _show(f"{words[-1]}: {account['accepted']:,} of {account['total']:,} records")
    for reason, count in account["rejected"].items():
        _show(f"  left out: {count:,}: {reason}")


def _compare(options: argparse.Namespace) -> None:
    """compare: two models on the same prompts, side by side on a page, with a judge's verdicts if one is named."""
    words = _words(options, "two recipes, runs or model folders")
    if len(words) != 2:
        raise RecipeError(
            f"groundup compare: two targets are compared, {len(words)} given; each is a recipe or a folder"
        )
    if options.limit < 0 or options.max_new_tokens < 1:
        raise RecipeError("groundup compare: --limit is 0 or more, --max-new-tokens 1 or more")
    room = _room("compare")
    judge = room.judge_of(vars(options))
    sides = room.side(words[0]), room.side(words[1])
    prompts = list(room.spread(room.prompts_for(options.prompts, words[0]), options.limit))
    found = room.compare(sides, prompts, options.max_new_tokens, judge, options.judge_model or "", options.people)
    page = Path(options.out)
    room.write_page(found, page)
    if options.json:
        _show_json({**found.as_dict(), "page": str(page)})
    else:
        for line in room.lines_of(found):
            _show(line)
        _show(f"page: {page}")
    if found.fault:
        raise _room("errors").ResourceError(f"the judge stayed away, the page says how far it came; {found.fault}")


def _question(model: Path, target: str) -> str:
    """How the model of a run is asked: for labels, for what a gap hides, or for an answer."""
    if (model / "task").is_dir():
        return f'predict {target} --text "..."'
    if (model / "config.json").is_file() and not (model / "chat_template.jinja").is_file():
        return f'generate {target} --fill-mask "The [MASK] ..."'
    return f'chat {target} "..."'


def _prepare(options: argparse.Namespace) -> None:
    """prepare; with --explain: what happened to one record, and nothing is prepared."""
    if options.explain is None:
        _run(options)
        return
    told = _room("pipeline").explain(_recipe(options), options.explain)
    if options.json:
        _show_json(told)
        return
    for line in _room("corpus").lines_of(told):
        _show(line)


def _near(path: Path) -> str:
    """`path` relative to the current folder when it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _figures(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _show_stages(stages: Iterable[dict[str, Any]], prefix: str = "") -> None:
    for entry in stages:
        seconds = f"{entry['seconds']:9.1f} s" if entry.get("seconds") is not None else " " * 11
        _show(f"{prefix}{entry['name']:<14} {entry['state']:<8} {seconds}  {_near(Path(entry['folder']))}")


def _show_recipe(options: argparse.Namespace) -> None:
    """show: the resolved recipe as YAML, stages as comments behind it."""
    if options.model:
        _show_model(options)
        return
    recipe, pipeline, config = _recipe(options), _room("pipeline"), _room("config")
    stages = pipeline.status(recipe)
    if options.json:
        folder = str(pipeline.run_folder(recipe))
        _show_json({"recipe": config.to_dict(recipe), "run_folder": folder, "stages": stages})
        return
    _show(config.to_yaml(recipe))
    _show_stages(stages, "# ")


def _show_model(options: argparse.Namespace) -> None:
    """show --model: the parts of a recipe's model, or of a model folder, and how their parameters are counted."""
    target, *words = _words(options, "a recipe or a model folder")
    anatomy = _room("anatomy")
    table = anatomy.of_target(target, words)
    if options.json:
        _show_json(table.as_dict())
        return
    for line in table.lines():
        _show(line)


def _import(options: argparse.Namespace) -> None:
    """import: a model from elsewhere becomes a model folder."""
    words = _words(options, "a model (Hugging Face folder or .gguf file) and the folder to write")
    if len(words) < 2 or "=" in words[1]:
        raise RecipeError("groundup import: give a model (Hugging Face folder or .gguf file) and the folder to write")
    source, folder, *overrides = words
    config, export = _room("config"), _room("export")
    settings = config.build(export.ExportConfig, config.apply_overrides({}, overrides), "options")
    tokenizer = None if options.tokenizer is None else Path(options.tokenizer)
    adapter = None if options.adapter is None else Path(options.adapter)
    done = export.import_model(
        source, folder, settings, tokenizer, chat_template=options.chat_template, adapter=adapter
    )
    if options.json:
        _show_json({"model": folder, **done})
        return
    _show(f"{done['parameters']:,} parameters, {done['vocab_size']:,} tokens ({done['rows_in_file']:,} in the file)")
    _show(f"model:  {folder}")


def _report(options: argparse.Namespace) -> None:
    """report: the page of a run, by recipe or by the run's folder."""
    path = Path(_words(options, "a recipe or a run's folder")[0])
    folder = _room("pipeline").run_folder(_recipe(options)) if path.suffix in RECIPE_SUFFIXES else path
    page = _room("report").build_report(folder)
    if options.json:
        _show_json({"report": str(page), **_figures(folder)})
    else:
        _show(str(page))


def _verify(options: argparse.Namespace) -> None:
    """verify: re-hash what a path holds; prints one canonical state hash, or the list of faults (exit code 4)."""
    path, recipe = Path(_words(options, "a stage, checkpoint, model or run folder, or a recipe")[0]), None
    if path.suffix in RECIPE_SUFFIXES and not path.is_dir():
        recipe = _recipe(options)
        path = _room("pipeline").run_folder(recipe)
    state_hash, faults = _room("verification").verify_folder(path)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise _room("errors").ModelFileError(f"{str(path)[-90:]}: {count}: {faults[0]}", details=faults[1:])
    of_run = (path / "recipe.yaml").is_file() and not options.hashes_only
    proofs = _room("pipeline").prove_resume(path, recipe) if of_run else []
    if options.json:
        resumes = [proof.as_dict() for proof in proofs]
        _show_json({"path": str(path), "state_hash": state_hash, "faults": [], "resume": resumes})
        return
    _show(f"{state_hash}  {path}")
    for proof in proofs:
        _show(proof.line())


def _doctor(options: argparse.Namespace) -> None:
    """doctor: every finding, with the line that mends it."""
    findings = _room("doctor").examine()
    if options.json:
        healthy = all(finding.level != "problem" for finding in findings)
        _show_json({"healthy": healthy, "findings": [finding.as_dict() for finding in findings]})
        return
    marks = {"ok": ("ok", 32), "note": ("note", 33), "problem": ("PROBLEM", 31)}
    for finding in findings:
        text, colour = marks[finding.level]
        mark = f"{text:<8}"
        print(f"\x1b[{colour}m{mark}\x1b[0m" if _colour(sys.stdout) else mark, end="")
        _show(f"{finding.name:<13} {finding.value}")
        if finding.remedy and finding.level != "ok":
            _show(f"{'':8}{'':13} mend it: {finding.remedy}")


def _deploy(options: argparse.Namespace) -> None:
    """deploy: the file with which a scheduler starts the recipe on a cluster; nothing is started."""
    deployment, recipe = _room("deployment"), _recipe(options)
    verbs = [name for name, verb in VERBS.items() if verb.trains]
    if options.target not in deployment.TARGETS or options.until not in verbs:
        raise RecipeError(
            f"groundup deploy: give --for {'|'.join(deployment.TARGETS)}, and --until one of {', '.join(verbs)}"
        )
    path, *overrides = options.words
    job = deployment.job_of(recipe, options.until, path, overrides)
    known = {key: vars(options)[key] for key in ("time", "partition", "account", "image", "claim", "namespace")}
    text = deployment.render(options.target, job, deployment.Cluster(**known))
    if options.output is not None:
        _room("stage").write_text(Path(options.output), text)
    if options.json:
        _show_json({"target": options.target, "output": options.output, "text": text})
    else:
        print(text if options.output is None else options.output, end="" if options.output is None else "\n")


def _schema(options: argparse.Namespace) -> None:
    """schema: the JSON schema of recipes for editors, or their reference for people."""
    recipe = _room("pipeline").Recipe
    if options.markdown:
        print(_room("reference").markdown(recipe), end="")
    else:
        _show_json(_room("config").json_schema(recipe))


def _generate(options: argparse.Namespace) -> None:
    """generate: go on with a text, piece by piece."""
    talk, (target, *words) = _room("talk"), _words(options, "a recipe or a model folder")
    settings = talk.generation(vars(options))
    if options.fill_mask is not None:
        _fill_mask(options, talk.load_target(target, words)[0])
        return
    model, prompts = talk.load_target(target, words)
    prompt = " ".join(prompts) if prompts else _standard_input()
    if options.json:
        _show_json({"prompt": prompt, "continuation": "".join(model.stream(prompt, settings))})
        return
    _stream([prompt])
    _stream(model.stream(prompt, settings))
    _show()


def _fill_mask(options: argparse.Namespace, model: Any) -> None:
    """generate --fill-mask: what an encoder would put into each gap, most probable first."""
    top_k = 5 if options.top_k is None else options.top_k
    if top_k < 1:
        raise RecipeError(f"--top-k {top_k}: give 1 or more candidates for each [MASK]")
    gaps = model.fill_mask(options.fill_mask, top_k)
    if options.json:
        shown = [[{"token": f.token, "text": f.text, "probability": f.probability} for f in gap] for gap in gaps]
        _show_json({"text": options.fill_mask, "gaps": shown})
        return
    for number, gap in enumerate(gaps, start=1):
        if len(gaps) > 1:
            _show(f"[MASK] {number}")
        for filling in gap:
            _show(f"{filling.probability:6.1%}  {filling.text!r}")


def _predict(options: argparse.Namespace) -> None:
    """predict: what a model with a head for a task says of texts or pairs: given here, in a file or on stdin."""
    talk, (target, *words) = _room("talk"), _words(options, "a recipe or a model folder")
    model, texts = talk.load_target(target, words, of_task=True)
    texts = [*(options.text or ()), *texts]
    if options.file is not None and texts:
        raise RecipeError("groundup predict: give texts or --file, not both")
    if options.file is not None:
        examples = talk.of_file(model, options.file, options.text_field, options.pair_field)
    elif texts:
        examples = talk.of_texts(model, texts, options.pair)
    elif sys.stdin is None or sys.stdin.isatty():
        raise RecipeError('groundup predict: give a text, for example groundup predict TARGET --text "..."; or --file')
    else:
        examples = talk.of_lines(model, sys.stdin)
    shown: list[dict[str, Any]] = []
    for example, found in talk.predictions(model, examples):
        if options.json:
            shown.append({"id": example.id, **found.as_dict()})
            continue
        if len(texts) != 1:
            _show(f"> {example.id}: {' '.join(example.text.split())[:90]}")
        for line in found.lines():
            _show(line)
    if options.json:
        _show_json({"task": model.labeller.config.task, "predictions": shown})


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise RecipeError('give a text to go on with, for example groundup generate TARGET "Once upon a time"')
    return sys.stdin.read()


def _stream(pieces: Iterable[str]) -> None:
    for piece in pieces:
        print(printable(piece), end="", flush=True)


def _chat(options: argparse.Namespace) -> None:
    """chat: answer the questions given, or each line of stdin, or hold a conversation on a terminal."""
    talk, (target, *words) = _room("talk"), _words(options, "a recipe or a model folder")
    settings = talk.generation(vars(options))
    model, questions = talk.load_target(target, words)
    if not questions and sys.stdin is not None and sys.stdin.isatty():
        _converse(model.chat(settings))
        return
    asked = questions or [line.strip() for line in sys.stdin or () if line.strip()]
    if not asked:
        raise RecipeError(f'no question; for example groundup chat {target[-60:]} "What is ...?"')
    if options.json:
        answers = [
            {"question": question, "answer": "".join(model.chat(settings).reply(question))} for question in asked
        ]
        _show_json({"answers": answers})
        return
    for question in asked:
        if len(asked) > 1:
            _show(f"> {question}")
        _stream(model.chat(settings).reply(question))
        _show()


def _tokenizer(options: argparse.Namespace) -> None:
    """tokenizer: how a text is cut, how many tokens files need; without either, how large the vocabulary is."""
    inspection, (target, *words) = (
        _room("inspection"),
        _words(options, "a recipe, a run, or a tokenizer's file or folder"),
    )
    tokenizer, files = inspection.load_target(target, words)
    tokens = [] if options.text is None else inspection.cut(tokenizer, options.text)
    fertility = inspection.fertility_of_files(tokenizer, files) if files else {}
    if options.json:
        shown = [{"id": token.id, "text": token.text} for token in tokens]
        _show_json({"vocab_size": tokenizer.vocab_size, "tokens": shown, "fertility": fertility})
        return
    _show(f"{tokenizer.vocab_size:,} tokens, words cut by pattern {tokenizer.pattern or 'of its own'}")
    if tokens:
        _show(f"{len(tokens)} tokens: " + "|".join(token.text.replace("\n", "\\n") for token in tokens))
        _show(" ".join(str(token.id) for token in tokens))
    for line in inspection.fertility_lines(fertility) if files else ():
        _show(line)


def _converse(chat: Any) -> None:
    print(CHAT_HELP, file=sys.stderr)
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            _show()
            return
        if question in ("/quit", "/exit"):
            return
        if question == "/reset":
            chat.reset()
            continue
        try:
            _stream(chat.reply(question) if question else ())
        except KeyboardInterrupt:
            pass
        except RecipeError as error:
            print(f"groundup: {first_line(error)}", file=sys.stderr)
        _show()


_RECIPE = "RECIPE [key.path=value ...]"
VERBS: dict[str, Verb] = {
    "run": Verb(_RECIPE, "every stage of the recipe, in order, then the report", _run, trains=True),
    "prepare": Verb(
        f"{_RECIPE} [--explain DOCUMENT_ID]",
        "raw text to clean documents, tokenizer, shards and conversations; or what happened to one record",
        _prepare,
        "explain",
    ),
    "pretrain": Verb(_RECIPE, "up to and including training on text", _run, trains=True),
    "instruct": Verb(_RECIPE, "up to and including instruction tuning", _run, trains=True),
    "task": Verb(_RECIPE, "up to and including training an encoder for a task", _run, trains=True),
    "evaluate": Verb(
        "RECIPE|MODEL [key.path=value ...] [--tasks FILE] [--text FILE] [--output FOLDER]",
        "up to and including evaluation; or a model as it is, on tasks and texts",
        _evaluate,
        "evaluation",
        trains=True,
    ),
    "compare": Verb(
        "TARGET TARGET [--prompts FILE] [--out FILE] [--judge URL --judge-model NAME]",
        "two models on the same prompts: a page of both answers, differences with errors, a judge's verdicts",
        _compare,
        "comparison",
    ),
    "convert": Verb(
        "FORM FILE [FILE ...] OUTPUT [--turns] [--no-answer TEXT]",
        "public data (forms: squad, parallel, dialogues) to JSON lines that recipes read",
        _convert,
        "conversion",
    ),
    "export": Verb(_RECIPE, "up to and including the Hugging Face folder", _run, trains=True),
    "generate": Verb(
        'TARGET "text"', "go on with a text; TARGET is a recipe, run or model folder", _generate, "generation"
    ),
    "predict": Verb(
        'TARGET [--text "text" ... | --file FILE] [--pair "text"] [--text-field F] [--pair-field F]',
        "what a model of a task says of texts or pairs: label, words, number or answer; here, from a file or stdin",
        _predict,
        "prediction",
    ),
    "chat": Verb(
        'TARGET ["question" ...]', "ask the model: here, from stdin, or in a conversation", _chat, "generation"
    ),
    "report": Verb("RECIPE|RUN", "write a run's report.html again, finished or not", _report),
    "import": Verb(
        "MODEL FOLDER [key=value ...] [--tokenizer PATH] [--chat-template auto|own] [--adapter FOLDER]",
        "a Hugging Face folder or .gguf file to a model folder of ours",
        _import,
        "import",
    ),
    "show": Verb(
        f"{_RECIPE} [--model]",
        "the resolved recipe, and each stage's state and folder; or the parts of its model",
        _show_recipe,
        "model",
    ),
    "verify": Verb(
        "PATH|RECIPE [--hashes-only]",
        "re-hash a stage, checkpoint, model or run; print one state hash; of a run, prove that it resumes to the bit",
        _verify,
        "verify",
    ),
    "tokenizer": Verb(
        "TARGET [FILE ...]", "how a tokenizer cuts --text, and how many tokens files need", _tokenizer, "tokenizer"
    ),
    "doctor": Verb("", "what this machine offers, what is missing, and the line that mends it", _doctor),
    "deploy": Verb(
        f"{_RECIPE} --for slurm|kubernetes|ray|torchrun [--output FILE] [--until VERB]",
        "the file with which a cluster starts the recipe: sbatch script, TrainJob, Ray job, torchrun script",
        _deploy,
        "deployment",
    ),
    "schema": Verb("[--markdown]", "the JSON schema of recipes, for editors", _schema, "markdown"),
}
