"""Libraries that only some sources, rules and engines need: loaded when the first of them asks.

Invariant: where one is missing the run stops with the line that installs it, so no record is lost for that reason.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from groundup.errors import DataError, RecipeError


def load(module: str, what: str, extra: str = "data") -> Any:
    """The module of an extra; `what` needs it, for the message. Raises DataError with the remedy when not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(_remedy(module, what, extra), details=[str(error)]) from None


def require(module: str, field: str, extra: str = "data") -> None:
    """Loads nothing. Raises RecipeError with the remedy when the module that the recipe's `field` needs is absent."""
    if importlib.util.find_spec(module) is None:
        raise RecipeError(f"{_remedy(module, field, extra)}, or leave it out")


def _remedy(module: str, what: str, extra: str) -> str:
    package = module.partition(".")[0].replace("_", "-")
    return f"{what} needs the package {package}, which cannot be loaded: run pip install 'groundup[{extra}]'"
