"""What a verb is, and its parser: the words behind it, the options that all verbs share, and its own."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from groundup.cli import rooms
from groundup.errors import RecipeError

RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Verb:
    """One verb: its usage behind the name, its line of help, what it does, and what adds its options to a parser."""

    usage: str
    summary: str
    handler: Callable[[argparse.Namespace], None]
    options: Callable[[argparse.ArgumentParser], None] | None = None
    trains: bool = False


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are RecipeErrors, so that they end like every other error."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (-\S+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        close = difflib.get_close_matches(unknown[1].split("=")[0], known, n=1) if unknown else []
        hint = f"did you mean {close[0]}?" if close else f"see `{self.prog} --help`"
        raise RecipeError(f"{self.prog}: {message}; {hint}")


def parser_of(name: str, verb: Verb) -> Parser:
    """The parser of one verb; recipe, folder, overrides and prompts are told apart by the handler."""
    usage = f"groundup {name} {verb.usage} [--json] [-v | -q]"
    parser = Parser(prog=f"groundup {name}", usage=usage, description=verb.summary, allow_abbrev=False)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more on stderr, with traces of errors")
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings on stderr")
    if verb.options is not None:
        verb.options(parser)
    return parser


def words_of(options: argparse.Namespace, wanted: str) -> list[str]:
    """The words behind the verb. Raises RecipeError, with what is `wanted`, when there are none."""
    words: list[str] = options.words
    if not words:
        raise RecipeError(f"groundup {options.verb}: give {wanted}; see `groundup {options.verb} --help`")
    return words


def recipe_of(options: argparse.Namespace) -> Any:
    """The recipe named first, with the overrides behind it."""
    path, *overrides = words_of(options, "a recipe, for example recipes/smoke.yaml")
    return rooms.room("pipeline").load_recipe(path, overrides)
