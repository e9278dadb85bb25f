"""What a config is: frozen, strictly typed, documented; and how one YAML file plus overrides becomes it.

    recipe.yaml --extends--> base.yaml
        |  read_yaml: JSON-like values only; duplicate keys, aliases and tags refused; 1e-3 is a number
        v
    dict  <- key.path=value overrides
        |  build: pydantic in strict mode; all faults at once, each with its key path and a suggestion
        v
    Config (frozen)  -> to_dict, to_yaml, digest, json_schema

Invariant: two equal configs have the same `digest` in every process, and a value that cannot be serialised the same
everywhere is refused rather than hashed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from groundup.errors import RecipeError

ConfigType = TypeVar("ConfigType", bound="Config")

RECIPE_LIMIT_BYTES = 1_000_000
DEPTH_LIMIT = 32
FAULT_LIMIT = 12

_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=_NAME_PATTERN)]
"""A name that may become a file name: letters, digits, dot, dash, underscore; at most 64."""


def _local(path: str) -> str:
    if not path or "\0" in path or "://" in path:
        raise ValueError("must name a local file, a folder or a glob; download data first")
    return path


LocalPath = Annotated[str, AfterValidator(_local)]
"""A file, a folder or a glob on this machine."""


class Config(BaseModel):
    """Base of every config class. Field documentation is the string under the field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        serialize_by_alias=True,
    )


class _RecipeLoader(yaml.SafeLoader):
    """SafeLoader without YAML's traps: only JSON-like scalars, no aliases, no duplicate keys, no tags."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        parser: Any = self
        event = parser.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise RecipeError(f"line {line}: aliases (*name) are not allowed in recipes; write the value out")
        if getattr(event, "tag", None) is not None:
            raise RecipeError(f"line {line}: tag {event.tag[:60]} is not allowed; recipes hold plain values only")
        depth = getattr(self, "_depth", 0) + 1
        if depth > DEPTH_LIMIT:
            raise RecipeError(f"the recipe is nested deeper than {DEPTH_LIMIT} levels; flatten it")
        self._depth = depth
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth = depth - 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(f"line {line}: a key must be a plain word")
            if key_node.value in seen:
                raise RecipeError(f"line {line}: key '{key_node.value}' appears twice; keep one")
            seen.add(key_node.value)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}


_LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")
_FLOAT_TAG = "tag:yaml.org,2002:float"
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.)$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    (_FLOAT_TAG, _FLOAT, list("-+0123456789.")),
):
    _RecipeLoader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _construct_map(loader: _RecipeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


def _construct_float(loader: _RecipeLoader, node: yaml.ScalarNode) -> float:
    return float(str(node.value).lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


_RecipeLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_RecipeLoader.add_constructor(_FLOAT_TAG, _construct_float)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text -> JSON-like value. Raises RecipeError naming `where`, line and column."""
    try:
        return yaml.load(text, Loader=_RecipeLoader)  # noqa: S506 - a SafeLoader subclass
    except RecipeError as error:
        raise RecipeError(f"{where}: {error.message}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = (error.problem or "not valid YAML").replace("\n", " ")
        hint = "; indent with spaces, not tabs" if "\\t" in problem else ""
        raise RecipeError(f"{where}:{place} {problem}{hint}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: not valid YAML: {str(error).splitlines()[0][:100]}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """One recipe file as a dictionary, with its `extends:` (at most one, relative to the file) merged beneath."""
    values = _read_one(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends must be one file name, got {type(base).__name__}")
    base_path = path.parent / base
    base_values = _read_one(base_path)
    if "extends" in base_values:
        raise RecipeError(f"{base_path}: a base recipe may not extend another; at most one `extends:` in a chain")
    return merge(base_values, values)


def _read_one(path: Path) -> dict[str, Any]:
    try:
        is_file = path.is_file()
        text = path.read_text(encoding="utf-8-sig") if is_file and path.stat().st_size <= RECIPE_LIMIT_BYTES else ""
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text at byte {error.start}; save the recipe as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; give a readable YAML file such as recipes/smoke.yaml") from None
    if not is_file:
        kind = "is a folder, not a recipe file" if path.is_dir() else "no such recipe"
        raise RecipeError(f"{path}: {kind}; give a YAML file such as recipes/smoke.yaml")
    if path.stat().st_size > RECIPE_LIMIT_BYTES:
        raise RecipeError(f"{path}: {path.stat().st_size} bytes is too long for a recipe (limit {RECIPE_LIMIT_BYTES})")
    values = parse_yaml(text, str(path))
    if values is None:
        raise RecipeError(f"{path}: the recipe is empty; start from recipes/smoke.yaml")
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, this is a {type(values).__name__}")
    return values


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` over `base`, mapping by mapping; lists, scalars and mappings of another `kind` are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping) and _same_kind(under, value):
            merged[key] = merge(under, value)
        else:
            merged[key] = value
    return merged


def _same_kind(under: Mapping[str, Any], top: Mapping[str, Any]) -> bool:
    return bool(top.get("kind", under.get("kind")) == under.get("kind"))


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`key.path=value` pairs over a recipe dictionary; values are read as YAML, list items addressed by number."""
    result: dict[str, Any] = json.loads(json.dumps(values))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", key):
            raise RecipeError(f"'{override[:80]}' is no override; write key.path=value, such as pretrain.tokens=1000")
        _assign(result, key.split("."), parse_yaml(text, f"override {key}"), key)
    return result


def _assign(target: Any, path: list[str], value: Any, key: str) -> None:
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(target, list):
            if not part.isdigit() or int(part) >= len(target):
                raise RecipeError(f"override {key}: '{part}' is no position in a list of {len(target)}")
            if last:
                target[int(part)] = value
                return
            target = target[int(part)]
        elif isinstance(target, dict):
            if last:
                target[part] = value
                return
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
        else:
            raise RecipeError(f"override {key}: '{'.'.join(path[:depth])}' is a single value, it has no '{part}'")


def build(cls: type[ConfigType], values: Mapping[str, Any], where: str) -> ConfigType:
    """Validate `values` as `cls`. Raises one RecipeError that lists all faults, each with key path and suggestion."""
    unusable = _unusable(values)
    try:
        built = cls.model_validate_json(json.dumps(_blanked(values) if unusable else values))
        if not unusable:
            return built
        others: list[str] = []
    except ValidationError as error:
        others = [_describe(cls, values, fault) for fault in _causes(error.errors(include_url=False))]
    paths = tuple(fault.split(":")[0] for fault in unusable)
    faults = list(dict.fromkeys(unusable + [fault for fault in others if fault.split(":")[0] not in paths]))
    shown = faults[:FAULT_LIMIT]
    if len(faults) > FAULT_LIMIT:
        shown.append(f"... and {len(faults) - FAULT_LIMIT} more")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise RecipeError(f"{where}: {count}: {shown[0]}", details=shown[1:])


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
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(names[:12])}"
        return f"{key}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{key}: required, but not given"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.{_describe_tag(fault)}"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be ", "should be ", 1)
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == _NAME_PATTERN:
        message = "should be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
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


def fields(cls: type[Config]) -> dict[str, Any]:
    """Fields by the name they have in a recipe (the alias where one is given, as for `lambda`)."""
    return {field.alias or name: field for name, field in cls.model_fields.items()}


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


def config_classes(annotation: Any) -> list[type[Config]]:
    """All config classes inside an annotation: optional, union, tuple, annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in config_classes(inner)]


def _tags(cls: type[Config]) -> set[Any]:
    """Literal values by which a union tells this class, and its own name (pydantic uses either in a location)."""
    tags: set[Any] = {cls.__name__}
    for field in cls.model_fields.values():
        if typing.get_origin(field.annotation) is Literal:
            tags.update(typing.get_args(field.annotation))
    return tags


def load(cls: type[ConfigType], path: Path, overrides: Sequence[str] = ()) -> ConfigType:
    """Recipe file + overrides -> validated config."""
    return build(cls, apply_overrides(read_yaml(path), overrides), str(path))


def to_dict(config: Config) -> dict[str, Any]:
    """Every field, defaults included, as JSON-like values."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that `parse_yaml` reads back to the same config."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
        return dumper.represent_scalar(_FLOAT_TAG, repr(value))

    def represent_string(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        style = '"' if _LINE_SEPARATORS.search(value) else None  # PyYAML folds them as line ends in other styles
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(float, represent_float)
    Dumper.add_representer(str, represent_string)
    Dumper.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))  # else 1e-05 is written as !!float '1e-05'
    return yaml.dump(to_dict(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def digest(value: Any) -> str:
    """Hash (16 hex digits) of a config or JSON-like value.

    Raises TypeError, or ValueError for NaN and infinity, on anything that is not serialised the same everywhere.
    """
    canonical = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, Config):
        return _canonical(to_dict(value))
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"only string keys can be fingerprinted, got {list(value)[:3]}")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be fingerprinted; convert it to plain values first")


def json_schema(cls: type[Config]) -> dict[str, Any]:
    """JSON schema for editors (completion and checking of recipe files)."""
    schema = cls.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema.get("properties", {})["extends"] = {"type": "string", "description": "A base recipe, relative to this file."}
    return schema


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Every leaf in which two JSON-like values differ: "optimizer.learning_rate: 0.01, now 0.02"."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = [*before, *(key for key in after if key not in before)]
        return [
            line
            for key in keys
            for line in differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if before == after else [f"{path}: {_short(before)}, now {_short(after)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
