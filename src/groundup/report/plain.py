"""JSON-like values from files -> the shapes a section expects; what is something else counts as nothing.

Invariant: every function takes whatever a file may hold; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from groundup.errors import printable
from groundup.log import finite
from groundup.report.words import number


def mapping(value: Any) -> dict[str, Any]:
    """`value` when it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int:
    """A count from a file; a mapping of counts is summed; what is none counts as 0."""
    if isinstance(value, Mapping):
        return sum(count(item) for item in value.values())
    found = number(value)
    return 0 if found is None else int(found)


def named(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of {name: entry} or of [{"name": ..., ...}]."""
    if isinstance(value, Mapping):
        yield from ((str(name), mapping(entry)) for name, entry in value.items())
    elif isinstance(value, list):
        for entry in map(mapping, value):
            yield str(entry.get("name", entry.get("file", "?"))), entry


def entries(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list; anything else is left out."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def clean(value: Any) -> Any:
    """`value` as JSON that every reader can take: no NaN or infinity, no half characters, whole numbers as such."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return finite(value)
