"""A template and a record -> a text, or any value; with the fields that it needs.

    "Question: {question}"               fields by name, {a.b} is a field inside a field
    "Question: {{question}}\\nAnswer:"    Jinja, in its sandbox; anything with {{, {% or {#
    "{answers.text}", "{{choices.text}}" a template that is one expression gives its value as it is: a list, a number

Invariant: a field that is not there, or is null, is an error and never an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from groundup.corpus.reading.sources import TEMPLATE_PARTS
from groundup.evaluate.tasks.refused import Refused

TEMPLATE_LIMIT = 20_000
TEXT_LIMIT = 1 << 20
"""Characters of what a template gives."""
_ONE_EXPRESSION = re.compile(r"\s*\{\{-?((?:(?!\}\}|\{\{).)+?)-?\}\}\s*", re.DOTALL)
_ONE_FIELD = re.compile(r"\{([^{}]+)\}")
_JINJA = re.compile(r"\{\{|\{%|\{#")


def _no_null(value: Any) -> Any:
    if value is None:
        raise Refused("a field is null")
    return value


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with an end to what a multiplication can make."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply numbers, or repeat a text within the limit; no powers."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        longest = max((len(each) for each in (left, right) if isinstance(each, str | list | tuple)), default=0)
        times = max((each for each in (left, right) if isinstance(each, int)), default=0)
        if operator == "**" or (not numbers and longest * times > TEXT_LIMIT):
            raise Refused(f"a text of more than {TEXT_LIMIT} characters, or a power")
        return super().call_binop(context, operator, left, right)


_ENVIRONMENT = _Sandbox(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_no_null, autoescape=False
)


class Template:
    """A template that was read once. Raises ValueError when it is none."""

    def __init__(self, text: str) -> None:
        if len(text) > TEMPLATE_LIMIT:
            raise ValueError(f"a template of {len(text)} characters; give at most {TEMPLATE_LIMIT}")
        self._text = text
        self._jinja = self._expression = None
        if _JINJA.search(text):
            try:
                self.fields = tuple(sorted(meta.find_undeclared_variables(_ENVIRONMENT.parse(text))))
                self._jinja = _ENVIRONMENT.from_string(text)
                one = _ONE_EXPRESSION.fullmatch(text)
                self._expression = _ENVIRONMENT.compile_expression(one[1], undefined_to_none=False) if one else None
            except jinja2.TemplateError as error:
                raise ValueError(f"no Jinja template ({str(error)[:60]}): {text[:40]!r}") from None
            return
        rest = TEMPLATE_PARTS.sub("", text)
        names = [part[1] for part in TEMPLATE_PARTS.finditer(text) if part[1] is not None]
        if "{" in rest or "}" in rest or "" in names:
            raise ValueError(f"braces stand for fields, such as {{question}}; write Jinja for others: {text[:40]!r}")
        self.fields = tuple(dict.fromkeys(names))

    def text(self, values: Mapping[str, Any]) -> str:
        """The text for a record. Raises Refused."""
        if self._jinja is None:
            found = TEMPLATE_PARTS.sub(lambda part: as_text(field_of(values, part[1]), part[1]), self._text)
        else:
            found = self._rendered(lambda: self._jinja.render(**values))
        return _limited(found)

    def value(self, values: Mapping[str, Any]) -> Any:
        """What the template stands for, as it is in the record where it is one expression; else its text."""
        one = _ONE_FIELD.fullmatch(self._text) if self._jinja is None else None
        if one:
            return field_of(values, one[1])
        if self._expression is None:
            return self.text(values)
        found = self._rendered(lambda: self._expression(**values))
        if isinstance(found, jinja2.Undefined):
            raise Refused(f"no field in '{self._text[:40]}'")
        return _limited(found) if isinstance(found, str) else found

    def _rendered(self, call: Any) -> Any:
        try:
            return call()
        except Refused:
            raise
        except jinja2.UndefinedError as error:
            raise Refused("a field of the template is not there", str(error)) from None
        except (jinja2.TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise Refused(f"the template fails: {type(error).__name__}", str(error)) from None


def template_fault(text: str) -> str:
    """Why a text is no template; "" when it is one."""
    try:
        Template(text)
    except ValueError as error:
        return str(error)
    return ""


@lru_cache(maxsize=256)
def template(text: str) -> Template:
    """The template of a text that was checked."""
    return Template(text)


def field_of(values: Mapping[str, Any], name: str) -> Any:
    """A field, or one inside a field by dots. Raises Refused where there is none, or null."""
    found: Any = values
    if name in values:
        found = values[name]
    else:
        for step in name.split("."):
            if not isinstance(found, Mapping) or step not in found:
                there = ", ".join(str(key)[:30] for key in list(values)[:12])
                raise Refused(f"no field '{name}'", f"found: {there or 'none'}")
            found = found[step]
    if found is None:
        raise Refused(f"field '{name}' is null")
    return found


def as_text(value: Any, name: str) -> str:
    """A text or a number as text. Raises Refused for anything else, and for what is no Unicode text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(f"field '{name}' is no text", f"it is a {type(value).__name__}")
    return _limited(str(value))


def _limited(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise Refused(f"a text of more than {TEXT_LIMIT} characters", text[:40])
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("lone surrogate (no character)") from None
    return text
