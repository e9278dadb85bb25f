"""From the arguments to the exit code: which verb, with which options; what ends it, on which stream.

argv -> verb (its own parser) -> handler -> result -> text, or one JSON object with --json
                                    \\-> GroundupError -> one line on stderr, its exit code
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from groundup.cli import rooms
from groundup.cli.failure import fail, is_broken, let_go
from groundup.cli.output import show
from groundup.cli.parser import parser_of
from groundup.cli.verbs import VERBS
from groundup.errors import EXIT_CODES, GroundupError, RecipeError, resource_errors
from groundup.log import ERRORS_ONLY, configure


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
    except GroundupError as error:
        return fail(error, error.exit_code, verbose, as_json)
    except KeyboardInterrupt:
        return fail(GroundupError("interrupted; the same command goes on from what is finished"), 130, False, as_json)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_broken(sys.stdout):  # the reader had enough (`| head`)
            let_go(sys.stdout)
            return 0
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            message = "out of memory: lower runtime.micro_batch_rows or the model's size, or free memory"
            return fail(GroundupError(message), 6, verbose, as_json)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f"unexpected error, a fault of Groundup: {what}"
        remedy = "please report it with the lines below and the output of `groundup doctor`"
        return fail(GroundupError(message, details=[remedy]), 1, True, as_json)


def _dispatch(given: list[str], in_process: bool) -> None:
    if not given or given[0] in ("-h", "--help", "help"):
        show(_help())
        return
    if given[0] in ("-V", "--version"):
        show(f"groundup {rooms.room('doctor').version_of('groundup')}")
        return
    verb = VERBS.get(given[0])
    if verb is None:
        close = difflib.get_close_matches(given[0], VERBS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "`groundup --help` lists them"
        if given[0].endswith((".yaml", ".yml")):
            hint = f"give one before the recipe: groundup run {given[0][-80:]}"
        raise RecipeError(f"'{given[0][:40]}' is no verb; {hint}")
    options = parser_of(given[0], verb).parse_intermixed_args(given[1:])
    options.verb, options.given = given[0], given
    options.training_verbs = [name for name, known in VERBS.items() if known.trains]
    launcher = rooms.room("launcher")
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
