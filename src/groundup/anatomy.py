"""A target named on the command line -> the parts of its model, counted without building or reading it.

    recipe.yaml [key.path=value ...] -> the model of the recipe, with its tokenizer's tokens (or those it asks for)
    folder, run, .gguf file          -> the model in it

Invariant: nothing is trained, read or changed here; a giant costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundup.errors import DataError
from groundup.export import open_source
from groundup.models import Anatomy, model_anatomy
from groundup.pipeline import Recipe, load_recipe, status

RECIPE_SUFFIXES = (".yaml", ".yml")


def of_target(target: str, words: Sequence[str]) -> Anatomy:
    """The parts of the model that `target` means. Raises RecipeError or ModelFileError."""
    if Path(target).suffix in RECIPE_SUFFIXES and not Path(target).is_dir():
        recipe = load_recipe(target, words)
        return model_anatomy(recipe.model, _vocab_size(recipe))
    source = open_source(Path(target))
    return model_anatomy(source.config, source.vocab_size)


def _vocab_size(recipe: Recipe) -> int:
    """Of the tokenizer if it is made already, else as many tokens as the recipe or the model to start from asks for."""
    made = _made_vocab_size(recipe)
    if made is not None:
        return made
    start = recipe.pretrain.from_
    return recipe.tokenizer.vocab_size if start is None else open_source(Path(start)).vocab_size


def _made_vocab_size(recipe: Recipe) -> int | None:
    """Of the recipe's tokenizer stage where that is done; without the texts that it asks for nothing can be."""
    try:
        summaries = {entry["name"]: entry.get("summary", {}) for entry in status(recipe)}
    except DataError:
        return None
    made: int | None = summaries.get("tokenizer", {}).get("vocab_size")
    return made
