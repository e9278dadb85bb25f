"""Config classes -> the reference of all recipe fields in Markdown, as docs/reference/recipe.md holds it.

    Recipe -> its fields (name, type, range, default, meaning) -> each inner config class, once, in order of appearance

Invariant: the text depends on the classes only, so a test can tell when the file is stale.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic_core import PydanticUndefined

from groundup import config
from groundup.config import Config

HEAD = """\
# Recipe reference

Every field that a recipe may hold, generated from the config classes by `groundup schema --markdown`; do not edit it.
A value comes from the class's default, then the recipe (and the one it `extends:`), then `key.path=value` on the
command line. Everything but `name` and `runtime` is identity: it changes the result, and so the stages' fingerprints.
"""


def markdown(root: type[Config]) -> str:
    """The whole page for `root` and every config class below it."""
    parts = [HEAD]
    for cls, path in _classes(root):
        where = f"At `{path}`. " if path else ""
        parts.append(f"\n## {cls.__name__}\n\n{where}{_summary(cls)}\n")
        parts.append("\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n")
        parts += [_row(name, field) for name, field in config.fields(cls).items()]
    return "".join(parts)


def _classes(root: type[Config]) -> Iterator[tuple[type[Config], str]]:
    """`root`, then every class in its fields, depth first, each once with the first key path it is met at."""
    seen: set[type[Config]] = set()

    def walk(cls: type[Config], path: str) -> Iterator[tuple[type[Config], str]]:
        if cls in seen:
            return
        seen.add(cls)
        yield cls, path
        for name, field in config.fields(cls).items():
            many = ".N" if _is_list(field.annotation) else ""
            for inner in config.config_classes(field.annotation):
                yield from walk(inner, f"{path}.{name}".lstrip(".") + many)

    return walk(root, "")


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (list, tuple)


def _summary(cls: type[Config]) -> str:
    return " ".join((cls.__doc__ or "").split())


def _row(name: str, field: Any) -> str:
    meaning = field.description or ("Which of the alternatives this is." if name == "kind" else "")
    cells = (f"`{name}`", _type(field), _default(field), " ".join(meaning.split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(field: Any) -> str:
    ranges = [text for part in field.metadata for text in _range(part)]
    return type_text(field.annotation) + (f", {', '.join(ranges)}" if ranges else "")


def _range(part: Any) -> Iterator[str]:
    for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if getattr(part, attribute, None) is not None:
            yield f"{sign} {getattr(part, attribute)}"
    if getattr(part, "min_length", None):
        yield f"at least {part.min_length}"


def type_text(annotation: Any) -> str:
    """An annotation in a recipe writer's words: "integer", "list of Source", "one of adamw, muon"."""
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
    if annotation in plain:
        return plain[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        words = [f"`{str(choice).lower() if isinstance(choice, bool) else choice}`" for choice in inner]
        return "one of " + ", ".join(words) if len(words) > 1 else words[0]
    if origin is typing.Annotated:
        return type_text(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(one) for one in inner)
    if origin in (tuple, list):
        return "list of " + type_text(inner[0]) if len(inner) == 1 or inner[1] is ... else _fixed(inner)
    if origin is dict:
        return f"mapping of {type_text(inner[0])} to {type_text(inner[1])}"
    return (
        f"[{annotation.__name__}](#{annotation.__name__.lower()})" if isinstance(annotation, type) else str(annotation)
    )


def _fixed(inner: tuple[Any, ...]) -> str:
    return "[" + ", ".join(type_text(one) for one in inner) + "]"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Config):
        return "its own defaults"
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(plain, ensure_ascii=False, default=_changed)}`"


def _changed(value: Any) -> Any:
    """A config inside a default, as the fields in which it differs from its class's own."""
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, Config) else str(value)
