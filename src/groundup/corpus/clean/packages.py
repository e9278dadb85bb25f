"""Packages of the extra `data` that some rules need: imported when a rule is used, with a clear word when absent."""

from __future__ import annotations

import importlib
from types import ModuleType

from groundup.errors import RecipeError


def imported(name: str, field: str) -> ModuleType:
    """The module `name`. Raises RecipeError, naming the recipe's field that asks for it and the remedy."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0].replace("_", "-")
        raise RecipeError(
            f"corpus.{field} needs the package {package}: pip install 'groundup[data]', or leave the field out"
        ) from None
