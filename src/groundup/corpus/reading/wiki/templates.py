"""A template -> the text that a reader sees in its place, for those without which a sentence would have a hole.

    {{lang|de|Haus}} --name--> rule "$2" --arguments--> Haus

All others (boxes, references, notices, pictures, navigation) are dropped, since their text is not in the dump's page.
To add a template: a line in `template_rules.py`, or `wiki.templates` in the recipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

from groundup.corpus.reading.wiki.quantities import FUNCTIONS
from groundup.corpus.reading.wiki.template_rules import COMMON, IN_LANGUAGE, PATTERNS

Arguments = Mapping[str, str]
Rule = Callable[[Arguments], str]

_FORMAT_TOKEN = re.compile(r"<|>|\$(?:\*|[^\W\d_][\w-]*|[0-9]+)(?:/\w[\w-]*)*")


@dataclass(frozen=True)
class Rules:
    """Rules by the template's name in lower case."""

    by_name: Mapping[str, Rule]

    @classmethod
    def of(cls, language: str, custom: Mapping[str, str]) -> Rules:
        """The rules for a wiki in `language`; those of the recipe win."""
        formats: dict[str, str] = {}
        for names, text in (*COMMON, *IN_LANGUAGE.get(language.partition("-")[0].lower(), ())):
            formats.update(dict.fromkeys(names.split("; "), text))
        formats.update({normal_name(name): text for name, text in custom.items()})
        return cls({**FUNCTIONS, **{name: compiled(text) for name, text in formats.items()}})


def normal_name(name: str) -> str:
    """A template's name as it is compared: lower case, single blanks, no `Template:` in front."""
    return " ".join(name.replace("_", " ").lower().split()).removeprefix("template:").strip()


def expand(content: str, rules: Rules, title: str) -> tuple[str | None, str]:
    """(text, name) of the template `{{content}}` that holds no other; text None: dropped."""
    head, bar, rest = content.partition("|")
    name = head.strip().lower()
    if "_" in name or "  " in name or ":" in name:
        name = normal_name(name)
    rule = rules.by_name.get(name) or _pattern_rule(name)
    if rule is not None:
        return rule(arguments(rest) if bar else {}), name
    word, colon, value = head.partition(":")
    if colon:
        return _function(word.strip().lower(), value.strip()), name
    if name in ("pagename", "fullpagename", "basepagename", "subpagename"):
        return title, name
    return None, name


def _pattern_rule(name: str) -> Rule | None:
    return next((rule for prefix, rule in _PATTERN_RULES if name.startswith(prefix)), None)


def _function(word: str, value: str) -> str | None:
    """Parser functions that only write their argument in another way; conditions and modules are dropped."""
    if word in ("formatnum", "ucfirst", "lcfirst", "padleft", "padright", "anchorencode"):
        return value.partition("|")[0]
    if word in ("lc", "uc"):
        return value.lower() if word == "lc" else value.upper()
    return None


def arguments(rest: str) -> dict[str, str]:
    """Parts between bars by name, or by number from 1; white space around them is cut off."""
    found: dict[str, str] = {}
    number = 0
    for part in rest.split("|"):
        name, equals, value = part.partition("=")
        if equals:
            found[name.strip().lower()] = value.strip()
        else:
            number += 1
            found[str(number)] = part.strip()
    return found


@cache
def compiled(text: str) -> Rule:
    """The rule of a format: `$1`, `$name`, `$a/b` (first that is not empty), `$*` (all numbered ones, with commas
    between), `<...>` (nothing when every argument inside is empty). A part that is not closed is closed at the end.
    """
    stack: list[list[str | Rule]] = [[]]
    position = 0
    for token in _FORMAT_TOKEN.finditer(text):
        stack[-1].append(text[position : token.start()])
        position = token.end()
        if token[0] == "<":
            stack.append([])
        elif token[0] == ">":
            parts = stack.pop() if len(stack) > 1 else []
            stack[-1].append(partial(_optional, tuple(parts)) if parts else ">")
        else:
            stack[-1].append(partial(_argument, tuple(token[0][1:].split("/"))))
    stack[-1].append(text[position:])
    while len(stack) > 1:
        parts = stack.pop()
        stack[-1].append(partial(_optional, tuple(parts)))
    return partial(_together, tuple(part for part in stack[0] if part != ""))


def _argument(names: tuple[str, ...], given: Arguments) -> str:
    if names == ("*",):
        return ", ".join(value for name, value in given.items() if name.isdecimal() and value)
    return next((given[name] for name in names if given.get(name)), "")


def _optional(parts: tuple[str | Rule, ...], given: Arguments) -> str:
    values = [part if isinstance(part, str) else part(given) for part in parts]
    filled = any(value for part, value in zip(parts, values) if not isinstance(part, str))
    return "".join(values) if filled else ""


def _together(parts: tuple[str | Rule, ...], given: Arguments) -> str:
    return "".join([part if isinstance(part, str) else part(given) for part in parts])


_PATTERN_RULES = [(prefix, compiled(text)) for prefix, text in PATTERNS]
