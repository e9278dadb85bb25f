"""Any optimizer that is a torch class, by its dotted name and its own arguments.

    {kind: named, name: torch.optim.NAdam, learning_rate: 2e-3, arguments: {momentum_decay: 0.004}}

Invariant: it must do with `step()` alone and take groups with `lr` and `weight_decay`; its state is saved and resumed
like that of any other.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from groundup.errors import RecipeError
from groundup.optim.groups import OneRule
from groundup.optim.optional import optimizer_class


class NamedConfig(OneRule):
    """A torch optimizer of another package, by name; its module is imported, so name only what is trusted."""

    kind: Literal["named"] = "named"
    name: str = Field(min_length=3)
    """Dotted name of a torch.optim.Optimizer, such as `torch.optim.NAdam` or `pytorch_optimizer.Adan`."""
    arguments: dict[str, bool | int | float | str | list[float]] = Field(default_factory=dict)
    """Further arguments of the class, by name; lists become tuples (`betas: [0.9, 0.95]`)."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer. Raises RecipeError when there is none of this name or it refuses the arguments."""
        rule: Any = optimizer_class(self.name, "install its package")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in self.arguments.items()}
        try:
            found: torch.optim.Optimizer = rule(groups, **given)
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:80]
            raise RecipeError(f"optimizer {self.name[:50]} refuses its arguments ({text}); mend arguments") from None
        return found
