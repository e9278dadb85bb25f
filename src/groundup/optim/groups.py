"""Which parameter gets which learning rate and weight decay, whatever the rule that updates it.

    matrix      learning_rate                           decayed
    embedding   learning_rate * embedding_multiplier    (a tied table counts as embedding)
    head        learning_rate * head_multiplier
    vector      learning_rate * vector_multiplier       (gains of norms, biases)

`rules` come on top, by parameter name; of several that fit the first counts. A model that is a larger copy of another
gets that one's rates, each times what its rule asks for (`transfer`). Invariant: without rules weight decay
falls on hidden matrices only; every group carries its role, its names and its `base_learning_rate`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from groundup.config import Config
from groundup.errors import RecipeError
from groundup.optim.transfer import UNCHANGED, Growth, Role, Updates, rate_factor

ROLES: tuple[Role, ...] = ("matrix", "embedding", "head", "vector")


class Named(NamedTuple):
    """A parameter with what is known of it."""

    name: str
    parameter: Tensor
    role: Role
    growth: Growth = UNCHANGED


class GroupRule(Config):
    """Another rate or decay for the parameters of some names."""

    parameters: str = Field(min_length=1)
    """Names of the parameters; `*` stands for anything: `layers.0.*`, `*.ffn.down.weight`."""
    learning_rate_multiplier: float = Field(default=1.0, ge=0)
    """Over the rate that the parameters had without this rule; 0 leaves them as they are."""
    weight_decay: float | None = Field(default=None, ge=0)
    """In place of the decay that they had without this rule."""


class Rates(Config):
    """What every optimizer's config has: the rates of the parts of a model."""

    embedding_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of the embedding table over the optimizer's rate."""
    head_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of an untied output matrix over the optimizer's rate."""
    vector_multiplier: float = Field(default=1.0, ge=0)
    """Learning rate of gains and biases over the optimizer's rate."""
    rules: tuple[GroupRule, ...] = ()
    """Other rates and decays for parameters by name; the first that fits a name counts."""
    needs_whole_parameters: ClassVar[bool] = False
    """The rule cannot do with parameters of which each rank holds a part."""

    def parts(self, named: Sequence[Named]) -> list[torch.optim.Optimizer]:
        """The torch optimizers that together own all of `named`."""
        raise NotImplementedError

    def transfer_obstacle(self) -> str | None:
        """Why a base model's rates are not known to hold for a larger copy, in words; None when they are."""
        return "its rates are not known to carry over to a larger model"


class OneRule(Rates):
    """The config of an optimizer that updates every parameter by one rule; see each class for its formula."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""
    updates: ClassVar[Updates] = "by_gradient"
    """What the size of an update follows."""
    decays_through_gradient: ClassVar[bool] = False
    """Weight decay is a part of the gradient, so the rule rescales it too."""

    def parts(self, named: Sequence[Named]) -> list[torch.optim.Optimizer]:
        """One torch optimizer, with a group for each role and rule that occurs."""
        made = groups(
            self, named, learning_rate=self.learning_rate, weight_decay=self.weight_decay, updates=self.updates
        )
        return [self.build(made)]

    def transfer_obstacle(self) -> str | None:
        """Updates as large as the gradient, and decay that goes through it, have no known rule."""
        if self.updates == "by_gradient":
            return super().transfer_obstacle()
        decays = self.weight_decay > 0 or any(rule.weight_decay for rule in self.rules)
        return (
            "its weight_decay is a part of the gradient; use 0 (or adamw)"
            if self.decays_through_gradient and decays
            else None
        )

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The torch optimizer over `groups`, which bring their own `lr` and `weight_decay`."""
        raise NotImplementedError


def role_of(name: str, parameter: Tensor, matrix_names: Collection[str], head_name: str) -> Role:
    """The role of a parameter: by the names the model gives, else by its number of dimensions."""
    if name in matrix_names:
        return "matrix"
    if parameter.ndim < 2:
        return "vector"
    return "head" if name == head_name else "embedding"


def groups(
    rates: Rates, named: Iterable[Named], *, learning_rate: float, weight_decay: float, updates: Updates
) -> list[dict[str, Any]]:
    """A torch parameter group for each role, rule and growth that occurs, in the order of `ROLES`.

    Where a rate is scaled, decay is scaled the other way: what decays in a step (rate times decay) stays.
    """
    factors: dict[Role, float] = {
        "matrix": 1.0,
        "embedding": rates.embedding_multiplier,
        "head": rates.head_multiplier,
        "vector": rates.vector_multiplier,
    }
    members: dict[tuple[int, int, Growth], list[Named]] = {}
    for entry in named:
        members.setdefault((ROLES.index(entry.role), rule_of(rates, entry.name), entry.growth), []).append(entry)
    found = []
    for (role_index, rule_index, growth), entries in sorted(members.items()):
        role, rule = ROLES[role_index], rates.rules[rule_index] if rule_index >= 0 else GroupRule(parameters="*")
        factor = rate_factor(updates, role, growth)
        rate = learning_rate * factors[role] * rule.learning_rate_multiplier * factor
        decay = weight_decay if role == "matrix" else 0.0
        found.append(
            {
                "params": [entry.parameter for entry in entries],
                "names": [entry.name for entry in entries],
                "role": role,
                "lr": rate,
                "base_learning_rate": rate,
                "weight_decay": (decay if rule.weight_decay is None else rule.weight_decay) / factor,
            }
        )
    return found


def rule_of(rates: Rates, name: str) -> int:
    """Position of the first rule that fits a parameter's name; -1 where none does."""
    return next((index for index, rule in enumerate(rates.rules) if fnmatchcase(name, rule.parameters)), -1)


def check_rules(rates: Rates, names: Collection[str]) -> None:
    """Raise RecipeError for a rule that fits no parameter at all: it would be a silent misspelling."""
    for rule in rates.rules:
        if not any(fnmatchcase(name, rule.parameters) for name in names):
            raise RecipeError(
                f"optimizer.rules: {rule.parameters[:60]!r} fits no parameter of the model;"
                f" its names are like {sorted(names)[0]!r}, see `groundup show --model`"
            )
