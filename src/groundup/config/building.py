"""A dictionary to a config: pydantic in strict mode; all faults at once, each with its key path and a suggestion."""

from __future__ import annotations

import difflib
import json
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from groundup.config.base import NAME_PATTERN, Config, ConfigType, config_classes, fields
from groundup.config.yaml_files import apply_overrides, read_yaml
from groundup.errors import RecipeError

FAULT_LIMIT = 12
EXACT_LIMIT = 2**53
"""Up to here every whole number has a float of its own; what is larger has to be written out."""


def load(cls: type[ConfigType], path: Path, overrides: Sequence[str] = ()) -> ConfigType:
    """Recipe file + overrides -> validated config."""
    return build(cls, apply_overrides(read_yaml(path), overrides), str(path))


def build(cls: type[ConfigType], values: Mapping[str, Any], where: str) -> ConfigType:
    """Validate `values` as `cls`. Raises one RecipeError that lists all faults, each with key path and suggestion."""
    unusable = _unusable(values)
    built, found = _validated(cls, _blanked(values) if unusable else values)
    if built is not None and not unusable:
        return built
    others = [_describe(cls, values, fault) for fault in _causes(found)]
    paths = tuple(fault.split(":")[0] for fault in unusable)
    faults = list(dict.fromkeys(unusable + [fault for fault in others if fault.split(":")[0] not in paths]))
    shown = faults[:FAULT_LIMIT]
    if len(faults) > FAULT_LIMIT:
        shown.append(f"... and {len(faults) - FAULT_LIMIT} more")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise RecipeError(f"{where}: {count}: {shown[0]}", details=shown[1:])


def _validated(cls: type[ConfigType], values: Any) -> tuple[ConfigType | None, list[Any]]:
    """The config, or pydantic's faults. A whole number may be written as 1e6 where an integer is wanted."""
    while True:
        try:
            return cls.model_validate_json(json.dumps(values)), []
        except ValidationError as error:
            faults = error.errors(include_url=False)
        found = [_followed(values, fault["loc"]) for fault in faults if fault["type"] == "int_type"]
        places = {place for place, number in found if _is_whole(number)}
        if not places:
            return None, faults
        values = _with_integers(values, places)


def _is_whole(number: Any) -> bool:
    return isinstance(number, float) and number.is_integer() and abs(number) < EXACT_LIMIT


def _followed(values: Any, location: Sequence[int | str]) -> tuple[tuple[int | str, ...], Any]:
    """Keys and positions that lead to a value, and the value; pydantic's names of a union's members lead nowhere."""
    place: list[int | str] = []
    for part in location:
        is_there = part in values if isinstance(values, Mapping) else isinstance(values, list) and isinstance(part, int)
        if is_there:
            place.append(part)
            values = values[part]
    return tuple(place), values


def _with_integers(values: Any, places: set[tuple[int | str, ...]], at: tuple[int | str, ...] = ()) -> Any:
    """A copy of `values` with integers at some places."""
    if isinstance(values, Mapping):
        return {key: _with_integers(item, places, (*at, key)) for key, item in values.items()}
    if isinstance(values, list):
        return [_with_integers(item, places, (*at, number)) for number, item in enumerate(values)]
    return int(values) if at in places else values


def _unusable(value: Any, path: str = "") -> list[str]:
    """What YAML can say and no recipe may hold: numbers that are not finite, text that is no text."""
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{path}: {value!r} is not a finite number"]
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return [f"{path}: {value[:20]!r} holds half a character (a lone surrogate)"]
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in _unusable(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in _unusable(item, f"{path}.{i}")]
    return []


def _blanked(value: Any) -> Any:
    """`value` with null for what is unusable, so that the other faults can be found as well."""
    if isinstance(value, Mapping):
        return {key: _blanked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_blanked(item) for item in value]
    return None if _unusable(value) else value


def _causes(faults: list[Any]) -> list[Any]:
    """Without "too short" of a list whose items are at fault themselves: pydantic counts the good ones only."""
    places = [tuple(fault["loc"]) for fault in faults]
    return [
        fault
        for fault, place in zip(faults, places)
        if fault["type"] != "too_short" or not any(other[: len(place)] == place != other for other in places)
    ]


def _describe(cls: type[Config], values: Mapping[str, Any], fault: Any) -> str:
    """One pydantic fault in a sentence: `key.path: what is wrong (value); remedy`."""
    path, owner = _walk(cls, values, fault["loc"])
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        names = list(fields(owner)) if owner else []
        close = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.55)
        close = close or [f"{name}.{path[-1]}" for name in names if owner and path[-1] in _keys_within(owner, name)]
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(names[:12])}"
        return f"{key}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{key}: required, but not given"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.{_describe_tag(fault)}"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be ", "should be ", 1)
    if fault["type"] == "too_short":
        least = fault["ctx"]["min_length"]
        message = f"should have at least {least} item{'s' if least > 1 else ''}"
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        kinds = _kinds(owner, path[-1]) if owner and path else []
        kind = next(iter([*difflib.get_close_matches(str(fault.get("input")), kinds, n=1), *kinds]), None)
        message = "should be a mapping, such as " + ("{key: value}" if kind is None else f"{{kind: {kind}}}")
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == NAME_PATTERN:
        message = "should be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
    if fault["type"] == "value_error" and isinstance(fault.get("input"), Mapping):
        return f"{key or 'recipe'}: {message}"  # a section whose fields do not fit together; the message names them
    value = json.dumps(fault.get("input"), ensure_ascii=False, default=str)
    shown = value if len(value) <= 60 else value[:57] + "..."
    hint = "; write true or false" if fault["type"].startswith("bool") else ""
    return f"{key or 'recipe'}: {message}, got {shown}{hint}"


def _describe_tag(fault: Any) -> str:
    """A missing or unknown `kind` of a union, with the kinds there are."""
    context = fault["ctx"]
    discriminator = str(context["discriminator"]).strip("'")
    if fault["type"] == "union_tag_not_found":
        return f"{discriminator}: required, but not given"
    tag, expected = str(context["tag"]), str(context["expected_tags"]).replace("'", "")
    close = difflib.get_close_matches(tag, expected.split(", "), n=1, cutoff=0.55)
    hint = f"did you mean '{close[0]}'?" if close else f"known here: {expected}"
    return f"{discriminator}: unknown {tag[:40]!r}; {hint}"


def _walk(cls: type[Config], values: Any, location: Sequence[int | str]) -> tuple[list[str], type[Config] | None]:
    """Key path of a pydantic location (union tags left out) and the config class that owns its last key."""
    path: list[str] = []
    owner: type[Config] | None = cls
    candidates = config_classes(cls)
    for position, part in enumerate(location):
        tagged = [c for c in candidates if part in _tags(c)]
        in_data = (isinstance(values, Mapping) and part in values) or isinstance(values, list)
        last = position == len(location) - 1
        if tagged and not in_data and not (last and any(part in fields(c) for c in candidates)):
            candidates, owner = tagged, tagged[0]
            continue
        path.append(str(part))
        owner = candidates[0] if candidates else None
        if isinstance(part, str):
            entered = [fields(c)[part] for c in candidates if part in fields(c)]
            candidates = [found for field in entered for found in config_classes(field.annotation)]
            values = values.get(part) if isinstance(values, Mapping) else None
        elif isinstance(values, list):
            values = values[part] if part < len(values) else None
    return path, owner


def _keys_within(owner: type[Config], name: str) -> set[str]:
    """Keys of the section `name` of `owner`, of whichever kind."""
    return {key for cls in config_classes(fields(owner)[name].annotation) for key in fields(cls)}


def _kinds(owner: type[Config], name: str) -> list[str]:
    """The kinds of a section that has several; none of another."""
    classes = config_classes(fields(owner)[name].annotation) if name in fields(owner) else []
    kinds = [fields(cls)["kind"] for cls in classes if "kind" in fields(cls)]
    return [kind for field in kinds for kind in typing.get_args(field.annotation)]


def _tags(cls: type[Config]) -> set[Any]:
    """Literal values by which a union tells this class, and its own name (pydantic uses either in a location)."""
    tags: set[Any] = {cls.__name__}
    for field in cls.model_fields.values():
        if typing.get_origin(field.annotation) is Literal:
            tags.update(typing.get_args(field.annotation))
    return tags
