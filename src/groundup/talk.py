"""A target named on the command line -> its model, ready to go on with a text or to answer.

    recipe.yaml [key.path=value ...] -> its run's model        run folder, model folder -> the model in it

Invariant: nothing is trained or changed here; a run without a model says which command makes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import ModelFileError, RecipeError
from groundup.export import LoadedModel, load_model
from groundup.inference import GenerateConfig
from groundup.log import logger
from groundup.pipeline import Recipe, load_recipe, run_folder

RECIPE_SUFFIXES = (".yaml", ".yml")
_OVERRIDE = re.compile(r"([a-z_]+)(\.[A-Za-z0-9_]+)*=.*", re.DOTALL)


def load_target(target: str, words: Sequence[str]) -> tuple[LoadedModel, list[str]]:
    """The model that `target` means, and those of `words` that are text.

    Behind a recipe, `key.path=value` is an override when `key` is a field of recipes; every other word is text. Raises
    RecipeError or ModelFileError.
    """
    if Path(target).suffix not in RECIPE_SUFFIXES or Path(target).is_dir():
        return load_model(target), list(words)
    overrides = [word for word in words if _is_override(word)]
    recipe = load_recipe(target, overrides)
    folder = run_folder(recipe)
    if not (folder / "model").exists():
        raise ModelFileError(f"run '{recipe.name}' has no model yet; make it with: groundup run {target[-90:]}")
    if _changed(recipe, folder):
        logger.warning(f"the recipe changed since this model was made; bring it up to date: groundup run {target}")
    return load_model(folder), [word for word in words if word not in overrides]


def _is_override(word: str) -> bool:
    found = _OVERRIDE.fullmatch(word)
    return found is not None and found[1] in config.fields(Recipe)


def _changed(recipe: Recipe, folder: Path) -> bool:
    """True when the recipe asks for another model than the one that its run has."""
    try:
        made = config.parse_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"), "recipe.yaml")
    except (OSError, UnicodeDecodeError, RecipeError):
        return False
    wanted = json.loads(json.dumps(config.to_dict(recipe)))
    return isinstance(made, dict) and {**made, "runtime": None} != {**wanted, "runtime": None}


def generation(options: Mapping[str, Any]) -> GenerateConfig:
    """How to choose tokens, from the options given (None: not given). Raises one RecipeError for all faults."""
    given = {name: options[name] for name in GenerateConfig.model_fields if options.get(name) is not None}
    return config.build(GenerateConfig, given, "options")
