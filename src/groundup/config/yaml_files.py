"""Recipe files as dictionaries: YAML without its traps, `extends:`, `key.path=value` overrides, and YAML again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from groundup.errors import RecipeError

RECIPE_LIMIT_BYTES = 1_000_000
DEPTH_LIMIT = 32


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


def dump_yaml(values: Mapping[str, Any]) -> str:
    """JSON-like values as YAML that `parse_yaml` reads back to the same values."""

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
    return yaml.dump(dict(values), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
