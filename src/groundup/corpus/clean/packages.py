"""Packages of the extra `data` that some rules need: imported when a rule is used, with a clear word when absent."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from groundup.errors import RecipeError


def require(name: str, field: str) -> None:
    """Raises RecipeError, as `imported` does, when the module is not there; imports nothing."""
    if importlib.util.find_spec(name) is None:
        raise _missing(name, field)


def imported(name: str, field: str) -> ModuleType:
    """The module `name`. Raises RecipeError, naming the recipe's field that asks for it and the remedy."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _missing(name, field) from None


def _missing(name: str, field: str) -> RecipeError:
    package = name.partition(".")[0].replace("_", "-")
    return RecipeError(f"corpus.{field} needs the package {package}: pip install 'groundup[data]', or leave it out")
