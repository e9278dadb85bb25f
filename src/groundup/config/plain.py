"""A config to what others read: plain values, YAML, its digest, the JSON schema, and how two of them differ.

Invariant: two equal configs have the same `digest` in every process, and a value that cannot be serialised the same
everywhere is refused rather than hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from groundup.config.base import Config
from groundup.config.yaml_files import dump_yaml


def to_dict(config: Config) -> dict[str, Any]:
    """Every field, defaults included, as JSON-like values."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that `parse_yaml` reads back to the same config."""
    return dump_yaml(to_dict(config))


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
