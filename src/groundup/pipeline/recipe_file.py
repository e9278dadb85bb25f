"""A recipe's file to a Recipe that stands by itself: overrides, files found beside it, the model it starts from."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup import config
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.start import described

_PATHS = (
    "corpus.sources.path",
    "corpus.clean.word_lists.path",
    "corpus.decontaminate.path",
    "corpus.augment.path",
    "corpus.augment.model_folder",
    "corpus.augment.endpoint.api_key_file",
    "tokenizer.path",
    "tokenizer.chat_template",
    "tokenizer.compare",
    "pretrain.from",
    "instruct.sources.path",
    "instruct.heldout.path",
    "preferences.sources.path",
    "preferences.heldout.path",
    "task.sources.path",
    "task.heldout.path",
    *("evaluate.tasks.path", "evaluate.tasks.few_shot.path", "evaluate.tasks.word_list"),
)
"""Where a recipe names files and folders to read; in each entry where a list is on the way."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Recipe file + `key.path=value` overrides -> Recipe.

    Data paths that are not found from the current folder but from the recipe's become absolute, and what
    `pretrain.from` says of the model is written out, so that a Recipe stands by itself. Raises RecipeError with all
    faults, and ModelFileError when `pretrain.from` is no model.
    """
    path = Path(path)
    values = config.apply_overrides(config.read_yaml(path), overrides)
    values = described(anchored(values, path.resolve().parent))
    if isinstance(values.get("model"), dict):
        values["model"].setdefault("kind", "decoder")
    return config.build(Recipe, values, str(path))


def anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe's values with the files that it names looked for in `folder` too, where they are not found from here."""
    for keys in _PATHS:
        _anchor_all(values, keys.split("."), folder)
    return values


def _anchor_all(values: Any, keys: Sequence[str], folder: Path) -> None:
    """Anchor the path or list of paths under a chain of keys; other shapes are left for the check of the recipe."""
    if isinstance(values, list):
        for each in values:
            _anchor_all(each, keys, folder)
    elif isinstance(values, dict):
        key, *inner = keys
        found = values.get(key)
        if inner:
            _anchor_all(found, inner, folder)
        elif isinstance(found, str):
            values[key] = _anchor(found, folder)
        elif isinstance(found, list):
            values[key] = [_anchor(path, folder) if isinstance(path, str) else path for path in found]


def _anchor(path: str, folder: Path) -> str:
    """`path` below `folder` when it leads somewhere from there but not from the current folder; else as it is."""
    if not path or "\0" in path or "://" in path or _leads_somewhere(path):
        return path
    below = str(folder / path)
    return below if _leads_somewhere(below) else path


def _leads_somewhere(path: str) -> bool:
    return os.path.lexists(path) or next(glob.iglob(path, recursive=True), None) is not None
