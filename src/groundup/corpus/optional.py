"""Libraries that only some sources need: loaded when the first file asks for them.

Invariant: where one is missing the run stops with the line that installs it, so no file is lost for that reason.
"""

from __future__ import annotations

import importlib
from typing import Any

from groundup.errors import DataError


def load(module: str, what: str) -> Any:
    """The module; raises DataError with the remedy when it is not installed. `what` needs it, for the message."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DataError(
            f"{what} needs the package {package}, which cannot be loaded: run pip install 'groundup[data]'",
            details=[str(error)],
        ) from None
