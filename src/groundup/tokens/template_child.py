"""Run as a program: renders one chat template for whoever started it, with nothing but a processor and some memory.

    stdin   {"template": "...", "variables": {...}}                        stdout   {} or {"error": "..."}
            {"render": [[messages, add_generation_prompt], ...]}                   {"texts": [text or {"error"}, ...]}
            {"outline": [messages, add_generation_prompt, answers, marks]}         {"text", "marked", "asked", "ended"}

A template is a program by somebody else. The sandbox keeps it from Python's inner parts, the limits from everything
that the sandbox allows: loops without end, texts of gigabytes, files, other processes. It is the environment that
transformers renders templates in (trim_blocks, lstrip_blocks, loop controls, `generation`, `tojson`, `strftime_now`,
`raise_exception`), but for the date, which is always the same, so that what is trained on can be made again.

Invariant: it imports nothing of this package, and opens no file once the template has arrived.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import jinja2
import jinja2.debug
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

SECONDS = 2.0
"""Processor time that one rendering may take."""
MEMORY_BYTES = 512 << 20
"""Address space of the whole process."""
TEXT_CHARACTERS = 64 << 20
"""A rendering may become this long."""
DATE = datetime(2024, 7, 26, 12, 0, 0)
"""What `strftime_now` takes for now: the date that Llama 3 writes where it is told none."""
_PRELOADED = (textwrap, jinja2.debug)
"""Jinja imports these when it needs them, which would be a file then."""


class TookTooLong(Exception):
    """A rendering has used up its processor time."""


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: what the template's author takes for the assistant's words, who may be marked."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        """The block as a call of `_marked` around its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        begin, end = self.environment.marks  # type: ignore[attr-defined]
        return f"{begin}{caller()}{end}"


class Namespace(jinja2.utils.Namespace):
    """Jinja's, without attributes that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _plain_name(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _plain_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def _plain_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not have the attribute {name!r}")


class Dictionaries:
    """What `dict` is to a template: a way to make one, and no class to climb up from."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.exceptions.TemplateError(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> jinja2.Environment:
    """What templates are compiled and rendered in; its `marks` are put around `generation` blocks."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": DATE.strftime,
        "dict": Dictionaries(),
        "namespace": Namespace,
    }
    made.extend(marks=("", ""))
    return made


def render(
    template: jinja2.Template,
    variables: Mapping[str, Any],
    messages: Any,
    asking: bool,
    marks: Sequence[str] = ("", ""),
) -> str:
    """One rendering, with `marks` around `generation` blocks. Raises MemoryError when its text has no end."""
    pieces, size = [], 0
    template.environment.marks = marks  # type: ignore[attr-defined]
    given = {**variables, "messages": messages, "add_generation_prompt": asking, "tools": None, "documents": None}
    for piece in template.generate(**given):
        size += len(piece)
        if size > TEXT_CHARACTERS:
            raise MemoryError
        pieces.append(piece)
    return "".join(pieces)


def outline(
    rendered: Callable[..., str], messages: list[Any], asking: bool, answers: list[int], marks: list[str]
) -> dict[str, Any]:
    """The rendering of messages, plain and with marks, and what of it stands there before and behind each answer.

    `asked`: the length of what asks for an answer, -1 where the rendering does not begin with that; `ended`: how much
    of the rendering of the messages up to an answer is the same.
    """
    text = _limited(partial(rendered, messages, asking))
    if isinstance(text, dict):
        return text
    asked, ended = [], []
    for number in answers:
        prompt = _limited(partial(rendered, messages[:number], True))
        asked.append(len(prompt) if isinstance(prompt, str) and text.startswith(prompt) else -1)
        until = _limited(partial(rendered, messages[: number + 1], False))
        ended.append(_shared(text, until) if isinstance(until, str) else 0)
    return {
        "text": text,
        "marked": _limited(partial(rendered, messages, asking, marks)),
        "asked": asked,
        "ended": ended,
    }


def _shared(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _reason(error: BaseException) -> dict[str, Any]:
    """An error as the caller gets it; `fatal` when it is the template that cannot be used at all."""
    if isinstance(error, TookTooLong):
        return {"error": f"it took more than {SECONDS:.0f} s of processor time", "fatal": True}
    if isinstance(error, MemoryError):
        return {"error": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory", "fatal": True}
    if isinstance(error, RecursionError):
        return {"error": "it calls itself without end", "fatal": True}
    text = (str(error).splitlines() or [""])[0][:160]
    kinds = (jinja2.exceptions.TemplateSyntaxError, jinja2.exceptions.SecurityError)
    kind = "" if type(error) is jinja2.exceptions.TemplateError else f"{type(error).__name__}: "
    return {"error": f"{kind}{text}", "fatal": isinstance(error, kinds)}


def _limited(call: Callable[[], Any]) -> Any:
    """The result of a call, or why there is none, in at most SECONDS.

    The first alarm is heard between two steps of Python; the second, which nobody hears, ends the process within one.
    """
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)
        try:
            return call()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    except Exception as error:
        return _reason(error)


def _out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    raise TookTooLong


def _restrict() -> None:
    """Give up memory without end, further files, processes, and the writing of files."""
    signal.signal(signal.SIGVTALRM, _out_of_time)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system that has no such limit
            resource.setrlimit(limit, (value, value))


_USUAL = """\
{%- set ns = namespace(x=0) %}{% macro said(text) %}{{ text | trim }}{% endmacro %}
{%- for x in [1, 2] %}{% set ns.x = x %}{% if loop.last %}{% break %}{% endif %}{% endfor %}
{{- "a\\n\\u00e9" + said(" b ") + ("c" | tojson) + ["d", "e"] | join(", ") + strftime_now("%d %b %Y") }}
{%- generation %}{{ "%s %d" | format("f", 1) ~ {"a": 1}.items() | list | length ~ "a b".split(" ")[-1].upper() }}
{%- endgeneration %}{{ raise_exception("g") }}"""


def _warm_up() -> None:
    """Let Python and jinja2 load what they need for a rendering and for an error in one."""
    for text in (_USUAL, "{% for %}", "{{ nothing.at.all }}", "{{ ().__class__ }}", "{% include 'x' %}"):
        with contextlib.suppress(jinja2.exceptions.TemplateError, TypeError):
            environment().from_string(text).render()


def main() -> None:
    """Answer requests until there are no more."""
    _warm_up()
    _restrict()
    template: jinja2.Template | None = None
    variables: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "template" in request:
            variables = request["variables"]
            found = _limited(partial(environment().from_string, request["template"]))
            template = None if isinstance(found, dict) else found
            answer = found if template is None else {}
        elif "outline" in request:
            assert template is not None, "a template comes first"
            answer = outline(partial(render, template, variables), *request["outline"])
        else:
            assert template is not None, "a template comes first"
            answer = {"texts": [_limited(partial(render, template, variables, *each)) for each in request["render"]]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
