"""Optimizers of other packages: their classes loaded when a recipe asks for one, with words where that fails.

Invariant: nothing is imported before it is asked for, and what is missing is told with the line that installs it.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch

from groundup.errors import RecipeError

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def optimizer_class(name: str, remedy: str) -> type[torch.optim.Optimizer]:
    """The class of a dotted name, such as `torch.optim.NAdam`.

    Raises RecipeError when there is no such module or class, or when it is no torch optimizer; `remedy` is added where
    the module is missing.
    """
    if not _DOTTED.fullmatch(name):
        raise RecipeError(f"optimizer.name: {name[:60]!r} is no dotted name of a class; write it as torch.optim.NAdam")
    module, _, attribute = name.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise RecipeError(
            f"optimizer {name[:60]}: {module[:40]} cannot be loaded; {remedy}", details=[str(error)]
        ) from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        what = "is no class of torch optimizers" if found is not None else f"is not in {module[:40]}"
        raise RecipeError(f"optimizer {name[:60]}: {what}; give the dotted name of a torch.optim.Optimizer")
    return found
