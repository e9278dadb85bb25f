"""Names of the files of a folder or hub repository -> which of them are the data of a Hugging Face dataset.

    dataset_dict.json, state.json     what `datasets` saved: only the Arrow files named there
    README.md with a YAML head        a repository: the files of one configuration and split, as the head or names say

Files are plain data to every reader here; no loading script is ever run.

Invariant: without such a layout nothing is left out; with one, each file left out has its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from groundup.config import parse_yaml
from groundup.errors import DataError, RecipeError

ALL = "all"
CARD = "README.md"
_CARD_LIMIT_BYTES = 1 << 20
_CARD_KEYS = {"configs", "dataset_info", "task_categories", "size_categories"}
_LICENSE_CHARACTERS = 200
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Words in file and folder names by which the hub tells splits where the card does not."""
_WORD = re.compile(
    r"(?:^|[/._ \-0-9])(" + "|".join(sorted(_SPLIT_WORDS, key=len, reverse=True)) + r")(?=[/._ \-0-9]|$)"
)
_ABOUT_DATA = re.compile(
    r"(?:^|/)(?:dataset_infos?\.json|croissant\.json|requirements[^/]*\.txt"
    r"|(?:license|licence|notice|citation|changelog|contributing|authors|readme)[^/]*\.(?:txt|md))$"
)
"""Files that lie beside the data of many repositories."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_ALTERNATIVES = 100


@dataclass(frozen=True)
class Wanted:
    """Which part of a dataset: `config` "" for the only or default one, `split` a name or `ALL`."""

    config: str
    split: str


def left_out(
    names: Sequence[str], read: Callable[[str], bytes], wanted: Wanted, where: str, is_repository: bool = False
) -> dict[str, str]:
    """Name -> reason, for files below `where` that are no data of the wanted part.

    `read` gives the content of one of `names`. Raises DataError when the wanted configuration or split is not there.
    """
    reasons: dict[str, str] = {}
    for name in names:
        folder, slash, last = name.rpartition("/")
        if last == "state.json":
            reasons |= _beside_state(names, folder + slash, read(name))
        elif last == "dataset_dict.json":
            reasons |= _other_saved_splits(names, folder + slash, read(name), wanted, where)
    cards = {CARD: _card(read(CARD)) if CARD in names else None} if is_repository else _cards(names, read)
    for place, card in cards.items():
        folder = place.removesuffix(CARD)
        below = [name.removeprefix(folder) for name in names if name.startswith(folder)]
        others = _other_files(below, card or {}, wanted, f"{where}/{folder}".rstrip("/"))
        reasons |= {f"{folder}{name}": reason for name, reason in others.items()}
    return reasons


def _cards(names: Sequence[str], read: Callable[[str], bytes]) -> dict[str, dict[str, Any]]:
    """Name of a dataset card -> its values, the outermost ones: the folder may hold copies of several repositories."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted((name for name in names if name.rpartition("/")[2] == CARD), key=lambda name: name.count("/")):
        if not any(name.startswith(outer.removesuffix(CARD)) for outer in found):
            card = _card(read(name))
            if card is not None:
                found[name] = card
    return found


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _beside_state(names: Sequence[str], folder: str, data: bytes) -> dict[str, str]:
    """In a folder that `Dataset.save_to_disk` wrote only the files count that its state names."""
    state = _json_object(data)
    files = state.get("_data_files")
    if not isinstance(files, list):
        return {}
    listed = {folder + str(file.get("filename")) for file in files if isinstance(file, dict)}
    reason = "not data of the saved dataset"
    return {
        name: reason
        for name in names
        if name not in listed and name.startswith(folder) and "/" not in name.removeprefix(folder)
    }


def _other_saved_splits(names: Sequence[str], folder: str, data: bytes, wanted: Wanted, where: str) -> dict[str, str]:
    splits = _json_object(data).get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        return {}
    reasons = {f"{folder}dataset_dict.json": "not data of the saved dataset"}
    if wanted.split == ALL:
        return reasons
    _require(wanted.split, [*splits, ALL], "dataset_split", where)
    others = tuple(f"{folder}{split}/" for split in splits if split != wanted.split)
    return reasons | {name: f"not of split '{wanted.split}'" for name in names if name.startswith(others)}


def license_of_card(data: bytes) -> str:
    """The licence that the YAML head of a README names; several with commas, "" for none."""
    found = _head(data).get("license")
    names = found if isinstance(found, list) else [found]
    return ", ".join(name for name in names if isinstance(name, str))[:_LICENSE_CHARACTERS]


def _card(data: bytes) -> dict[str, Any] | None:
    """The YAML head of a dataset card; None for an ordinary README."""
    head = _head(data)
    return head if _CARD_KEYS & head.keys() else None


def _head(data: bytes) -> dict[str, Any]:
    """The YAML head of a README; empty where there is none."""
    text = data[:_CARD_LIMIT_BYTES].decode("utf-8", "replace").replace("\r\n", "\n")
    head = re.match(r"\ufeff?---\n(.*?)\n---(?:\n|$)", text, re.DOTALL)
    if not head:
        return {}
    try:
        values = parse_yaml(head[1], CARD)
    except RecipeError:
        return {}
    return values if isinstance(values, dict) else {}


def _other_files(names: Sequence[str], card: Mapping[str, Any], wanted: Wanted, where: str) -> dict[str, str]:
    reasons = {name: "dataset card" for name in names if name == CARD}
    data = [name for name in names if name != CARD]
    configs = [config for config in _listed(card.get("configs")) if isinstance(config.get("config_name"), str)]
    if configs:
        config = _chosen(configs, wanted, where)
        splits = _declared_splits(config, data)
        what = f"configuration '{config['config_name']}'"
    elif wanted.config:
        raise DataError(f"{where}: the dataset has no configurations, so remove dataset_config: {wanted.config[:40]}")
    else:
        data = [name for name in data if not _ABOUT_DATA.search(name.lower())]
        splits, what = _splits_by_name(data), "the dataset"
        reasons |= {name: "not data of the dataset" for name in names if name not in reasons and name not in data}
    if wanted.split == ALL:
        chosen = {name for files in splits.values() for name in files}
    else:
        _require(wanted.split, [*splits, ALL], "dataset_split", where)
        chosen = set(splits[wanted.split])
        what = f"split '{wanted.split}'"
    return reasons | {name: f"not of {what}" for name in data if name not in chosen}


def _listed(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _chosen(configs: Sequence[dict[str, Any]], wanted: Wanted, where: str) -> dict[str, Any]:
    named = {str(config["config_name"]): config for config in configs}
    if wanted.config:
        _require(wanted.config, list(named), "dataset_config", where)
        return named[wanted.config]
    marked = [config for config in configs if config.get("default") is True]
    default = marked[0] if marked else named.get("default")
    if default is None and len(named) > 1:
        raise DataError(f"{where}: several configurations; set dataset_config: {', '.join(named)[:100]}")
    return default or configs[0]


def _declared_splits(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> files, of a configuration whose `data_files` are a pattern, patterns, or splits with patterns."""
    declared = config.get("data_files")
    folder = str(config.get("data_dir") or "").strip("./")
    within = [name for name in names if not folder or name.startswith(f"{folder}/")]
    if declared is None:
        return _splits_by_name(within)
    items = declared if isinstance(declared, list) else [declared]
    splits: dict[str, list[str]] = {}
    for item in items:
        split, paths = (str(item.get("split")), item.get("path")) if isinstance(item, dict) else ("train", item)
        patterns = [str(path) for path in (paths if isinstance(paths, list) else [paths])]
        splits.setdefault(split, []).extend(_matching(within, patterns))
    return splits


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    plain = [one.split("/") for pattern in patterns for one in _alternatives(pattern.removeprefix("./"))]
    return [name for name in names if any(_fits(name.split("/"), pattern) for pattern in plain)]


def _alternatives(pattern: str) -> list[str]:
    """A pattern with `{a,b}` as patterns without, at most _ALTERNATIVES of them."""
    found = [pattern]
    while len(found) < _ALTERNATIVES and (braces := _BRACES.search(found[0])):
        found = [one.replace(braces[0], choice, 1) for one in found for choice in braces[1].split(",")]
    return found[:_ALTERNATIVES]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern, in which `**` stands for any number of folders."""
    places = {0}
    for wanted in pattern:
        if wanted == "**":
            places = set(range(min(places, default=len(parts) + 1), len(parts) + 1))
        else:
            places = {i + 1 for i in places if i < len(parts) and fnmatchcase(parts[i], wanted)}
    return len(parts) in places


def _splits_by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> files by the words in their names; everything is "train" where no name has one."""
    found = {name: _WORD.search(name.lower()) for name in names}
    splits: dict[str, list[str]] = {}
    for name, word in found.items():
        if word:
            splits.setdefault(_SPLIT_WORDS[word[1]], []).append(name)
    return splits or {"train": list(names)}


def _require(value: str, known: Sequence[str], key: str, where: str) -> None:
    if value not in known:
        raise DataError(f"{where}: no {value[:40]!r} here; set {key} to one of {', '.join(known)[:90]}")
