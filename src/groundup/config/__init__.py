"""What a config is: frozen, strictly typed, documented; and how one YAML file plus overrides becomes it.

    recipe.yaml --extends--> base.yaml
        |  read_yaml: JSON-like values only; duplicate keys, aliases and tags refused; 1e-3 is a number
        v
    dict  <- key.path=value overrides                                                       (yaml_files.py)
        |  build: pydantic in strict mode; all faults at once, each with its key path and a suggestion
        v                                                                                   (building.py)
    Config (frozen)  -> to_dict, to_yaml, digest, json_schema                               (base.py, plain.py)

Invariant: two equal configs have the same `digest` in every process, and a value that cannot be serialised the same
everywhere is refused rather than hashed.
"""

from groundup.config.base import Config, ConfigType, LocalPath, Name, config_classes, fields
from groundup.config.building import FAULT_LIMIT, build, load
from groundup.config.plain import differences, digest, json_schema, to_dict, to_yaml
from groundup.config.yaml_files import RECIPE_LIMIT_BYTES, apply_overrides, merge, parse_yaml, read_yaml

__all__ = [
    "FAULT_LIMIT",
    "RECIPE_LIMIT_BYTES",
    "Config",
    "ConfigType",
    "LocalPath",
    "Name",
    "apply_overrides",
    "build",
    "config_classes",
    "differences",
    "digest",
    "fields",
    "json_schema",
    "load",
    "merge",
    "parse_yaml",
    "read_yaml",
    "to_dict",
    "to_yaml",
]
