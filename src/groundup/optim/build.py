"""An optimizer config and a model's parameters -> one optimizer of one or more torch optimizers.

Invariant: every parameter that may be trained is in exactly one group; hyper-parameters come from the config, state
comes from the steps (`optim.state`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from groundup.errors import RecipeError
from groundup.optim.adafactor import AdafactorConfig
from groundup.optim.adagrad import AdagradConfig
from groundup.optim.adamw import AdamConfig, AdamWConfig
from groundup.optim.adamw8bit import AdamW8bitConfig
from groundup.optim.groups import Named, Rates, check_rules, role_of
from groundup.optim.lion import LionConfig
from groundup.optim.muon import MuonConfig
from groundup.optim.named import NamedConfig
from groundup.optim.rmsprop import RMSpropConfig
from groundup.optim.schedule_free import ScheduleFreeConfig
from groundup.optim.sgd import SGDConfig
from groundup.optim.transfer import UNCHANGED, Growth

OptimizerConfig = Annotated[
    MuonConfig
    | AdamWConfig
    | AdamConfig
    | SGDConfig
    | AdagradConfig
    | AdafactorConfig
    | RMSpropConfig
    | LionConfig
    | ScheduleFreeConfig
    | AdamW8bitConfig
    | NamedConfig,
    Field(discriminator="kind"),
]
"""Any optimizer, told apart by `kind`."""


class Optimizer:
    """Several torch optimizers as one: each owns some of the parameters."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        self.remember_start()

    def remember_start(self) -> None:
        """Take the groups as they are now for those of a fresh optimizer; again when they are divided otherwise."""
        self.start_values = [_plain_values(group) for group in self.param_groups]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups; each has `lr`, `base_learning_rate`, `role`, `params` and `names`."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate_factor(self, factor: float, step: int) -> None:
        """Let every group learn at its base rate times `factor` from now on; before its `first_step` not at all."""
        for group in self.param_groups:
            rate = group["base_learning_rate"] * factor if step >= group.get("first_step", 0) else 0.0
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # torchao's compiled step keeps the tensor
            else:
                group["lr"] = rate

    def moved_values(self) -> list[dict[str, bool | int | float]]:
        """Of each group the plain values that steps have changed, as schedule-free AdamW's do (its count of steps)."""
        now = map(_plain_values, self.param_groups)
        return [
            {key: value for key, value in values.items() if value != start.get(key)}
            for values, start in zip(now, self.start_values)
        ]

    @property
    def averages(self) -> list[torch.optim.Optimizer]:
        """The parts whose rule keeps an average that is meant for use."""
        return [part for part in self.parts if hasattr(part, "eval") and hasattr(part, "train")]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, parameters hold what is meant for use: the average, where a rule has one; afterwards as before."""
        averaging: list[Any] = self.averages
        kept = [p.detach().clone() for part in averaging for group in part.param_groups for p in group["params"]]
        for part in averaging:
            part.eval()
        try:
            yield
        finally:
            for part in averaging:
                part.train()
            members = (p for part in averaging for group in part.param_groups for p in group["params"])
            with torch.no_grad():  # the way back by arithmetic is not exact
                for parameter, copy in zip(members, kept):
                    parameter.copy_(copy)

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop (or zero) all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """torch's own state dictionaries, in order of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for part, part_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(part_state)


def _plain_values(group: Mapping[str, Any]) -> dict[str, bool | int | float]:
    """Numbers of a group that are no rates: those are set before every step."""
    return {k: v for k, v in group.items() if isinstance(v, bool | int | float) and k != "lr"}


def build_optimizer(
    config: Rates,
    named_parameters: Mapping[str, Tensor],
    matrix_names: Collection[str],
    head_name: str = "head.weight",
    growth: Mapping[str, Growth] | None = None,
    elsewhere: Collection[str] = (),
) -> Optimizer:
    """Optimizer over materialised parameters; `matrix_names`: hidden matrices, `head_name`: the output matrix.

    `growth`: how much larger than a base model the model is at each parameter, where it is one's larger copy.
    `elsewhere`: names of the model's other parameters, which rules may be about.
    Parameters that require no gradient are left out. Raises ValueError when a matrix name is no parameter, RecipeError
    when a rule fits none, the optimizer cannot be had or its rates do not carry over.
    """
    unknown = set(matrix_names) - set(named_parameters)
    if unknown:
        raise ValueError(f"matrix names {sorted(unknown)[:3]} are no parameters of the model")
    check_rules(config, {*named_parameters, *elsewhere})
    growth = growth or {}
    if any(each != UNCHANGED for each in growth.values()):
        require_transfer(config)
    named = [
        Named(name, parameter, role_of(name, parameter, matrix_names, head_name), growth.get(name, UNCHANGED))
        for name, parameter in named_parameters.items()
        if parameter.requires_grad
    ]
    return Optimizer(config.parts(named))


def require_transfer(config: Rates) -> None:
    """Raise RecipeError when rates of this optimizer are not known to carry over to a larger model."""
    if obstacle := config.transfer_obstacle():
        kind = getattr(config, "kind", type(config).__name__)
        raise RecipeError(f"optimizer.kind: {kind} with model.scaling: {obstacle}; use muon, adamw or lion")
