"""Any optimizer that is a torch class, by its dotted name and its own arguments.

    {kind: named, name: torch.optim.NAdam, learning_rate: 2e-3, arguments: {momentum_decay: 0.004}}

Invariant: it does with `step()` alone and takes groups with `lr` and `weight_decay`, which is tried on two numbers
before anything is trained; its state is saved and resumed like that of any other.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch._subclasses.fake_tensor import unset_fake_temporarily

from groundup.errors import RecipeError
from groundup.optim.groups import OneRule
from groundup.optim.optional import optimizer_class

_FIELDS = {"lr": "learning_rate", "learning_rate": "learning_rate", "weight_decay": "weight_decay"}
"""Arguments that every group brings, which would silently win over those of the class."""


class NamedConfig(OneRule):
    """A torch optimizer of another package, by name; its module is imported, so name only what is trusted."""

    kind: Literal["named"] = "named"
    name: str = Field(min_length=3)
    """Dotted name of a torch.optim.Optimizer, such as `torch.optim.NAdam` or `pytorch_optimizer.Adan`."""
    arguments: dict[str, bool | int | float | str | list[float]] = Field(default_factory=dict)
    """Further arguments of the class, by name; lists become tuples (`betas: [0.9, 0.95]`)."""

    @field_validator("arguments")
    @classmethod
    def _further(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        taken = next((name for name in arguments if name in _FIELDS), None)
        if taken is not None:
            raise ValueError(f"{taken} is a field of its own; write it as optimizer.{_FIELDS[taken]}")
        return arguments

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer. Raises RecipeError when there is none of this name, or it cannot work here."""
        rule: Any = optimizer_class(self.name, "install its package")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in self.arguments.items()}
        self._check(rule, groups)
        try:
            found: torch.optim.Optimizer = rule(groups, **given)
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:80]
            raise RecipeError(f"optimizer {self.name[:50]} refuses its arguments ({text}); mend arguments") from None
        self._try(rule, given)
        return found

    def _check(self, rule: Any, groups: list[dict[str, Any]]) -> None:
        """Raise RecipeError where weight decay would be passed over."""
        known = inspect.signature(rule).parameters
        takes_any = any(each.kind == inspect.Parameter.VAR_KEYWORD for each in known.values())
        if "weight_decay" not in known and not takes_any and any(group["weight_decay"] for group in groups):
            raise RecipeError(f"optimizer {self.name[:60]} has no weight_decay; set weight_decay: 0, in rules too")

    def _try(self, rule: Any, given: dict[str, Any]) -> None:
        """A step on a matrix of two numbers. Raises RecipeError when it is not made so."""
        with unset_fake_temporarily(), torch.device("cpu"):
            parameter = torch.nn.Parameter(torch.ones(1, 2))
            parameter.grad = torch.ones(1, 2)
            try:
                rule([{"params": [parameter], "lr": self.learning_rate, "weight_decay": 0.0}], **given).step()
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                text = " ".join(str(error).split())[:80]
                raise RecipeError(
                    f"optimizer {self.name[:50]} makes no plain step ({text}); name one that does with step() alone"
                ) from None
