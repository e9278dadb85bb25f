"""Libraries that only some sources and rules need: loaded when the first file or rule asks for them.

Invariant: where one is missing the run stops with the line that installs it, so no record is lost for that reason.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from groundup.errors import DataError, RecipeError


def load(module: str, what: str) -> Any:
    """The module; `what` needs it, for the message. Raises DataError with the remedy when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(_remedy(module, what), details=[str(error)]) from None


def require(module: str, field: str) -> None:
    """Loads nothing. Raises RecipeError with the remedy when the module that the recipe's `field` needs is absent."""
    if importlib.util.find_spec(module) is None:
        raise RecipeError(f"{_remedy(module, field)}, or leave it out")


def _remedy(module: str, what: str) -> str:
    package = module.partition(".")[0].replace("_", "-")
    return f"{what} needs the package {package}, which cannot be loaded: run pip install 'groundup[data]'"
