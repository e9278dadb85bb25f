"""An optimizer config and a model's parameters -> one optimizer, and its state as flat tensors by parameter name.

    "layers.0.attention.query.weight" + ".momentum_buffer" -> tensor       (what a checkpoint writes as safetensors)

Invariant: `load_flat_state(flat_state(...))` gives back the same optimizer to the bit; hyper-parameters are not state,
they come from the config.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from groundup.errors import ModelFileError
from groundup.optim.adamw import AdamWConfig, adamw, role_of
from groundup.optim.muon import Muon, MuonConfig, muon

OptimizerConfig = Annotated[MuonConfig | AdamWConfig, Field(discriminator="kind")]
"""Any optimizer, told apart by `kind`."""

_STATE_FIELDS: dict[type, tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}


class Optimizer:
    """Several torch optimizers as one: each owns some of the parameters."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups; each has `lr`, `base_learning_rate`, `role`, `params` and `names`."""
        return [group for part in self.parts for group in part.param_groups]

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


def build_optimizer(
    config: MuonConfig | AdamWConfig,
    named_parameters: Mapping[str, Tensor],
    matrix_names: Collection[str],
    head_name: str = "head.weight",
) -> Optimizer:
    """The optimizer over materialised parameters; `matrix_names`: hidden matrices, `head_name`: the output matrix.

    Raises ValueError when a matrix name is no parameter.
    """
    unknown = set(matrix_names) - set(named_parameters)
    if unknown:
        raise ValueError(f"matrix names {sorted(unknown)[:3]} are no parameters of the model")
    named = [(name, p, role_of(name, p, matrix_names, head_name)) for name, p in named_parameters.items()]
    if isinstance(config, AdamWConfig):
        return Optimizer([adamw(config, named, learning_rate=config.learning_rate, weight_decay=config.weight_decay)])
    matrices = [(name, parameter) for name, parameter, role in named if role == "matrix"]
    others = [entry for entry in named if entry[2] != "matrix"]
    parts: list[torch.optim.Optimizer] = [muon(config, matrices)] if matrices else []
    if others:
        parts.append(adamw(config, others, learning_rate=config.adam_learning_rate, weight_decay=0.0))
    return Optimizer(parts)


def flat_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """`<parameter name>.<field>` -> state tensor (sharded like its parameter); empty before the first step."""
    return {
        f"{name}.{field}": value
        for part in optimizer.parts
        for name, parameter in _members(part)
        for field, value in part.state.get(parameter, {}).items()
    }


def load_flat_state(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take back what `flat_state` gave, whole or sharded tensors; an empty mapping is the state before the first step.

    Raises ModelFileError naming the first tensor that is missing, unknown or of another shape.
    """
    expected = {
        f"{name}.{field}": (part, parameter, field)
        for part in optimizer.parts
        for name, parameter in _members(part)
        for field in _fields(part)
    }
    wrong = sorted(expected.keys() ^ tensors.keys())
    if tensors and wrong:
        what = "missing" if wrong[0] in expected else "unknown"
        raise ModelFileError(
            f"optimizer state: {len(wrong)} tensors do not fit, first {what}: {wrong[0][:90]}; "
            "go on with the optimizer that wrote it"
        )
    for part in optimizer.parts:
        part.state.clear()
    for key, value in tensors.items():
        part, parameter, field = expected[key]
        part.state[parameter][field] = (
            value.to(parameter.device, copy=True) if field == "step" else _placed(key, value, parameter)
        )


def _placed(key: str, value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `value` on the parameter's device, sharded as the parameter is."""
    if value.shape != parameter.shape:
        raise ModelFileError(
            f"optimizer state {key[:80]}: shape {list(value.shape)}, the parameter has {list(parameter.shape)}"
        )
    value = value.to(parameter.device, copy=True)
    if isinstance(parameter, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


def _fields(part: torch.optim.Optimizer) -> tuple[str, ...]:
    return next(fields for kind, fields in _STATE_FIELDS.items() if isinstance(part, kind))


def _members(part: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [pair for group in part.param_groups for pair in zip(group["names"], group["params"], strict=True)]
