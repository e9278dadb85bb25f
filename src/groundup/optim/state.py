"""An optimizer's state as flat tensors by parameter name, and back: what a checkpoint writes as safetensors.

    layers.0.attention.query.weight.momentum_buffer    a tensor of a parameter's state
    table.weight.exp_avg.codes                         the inner tensors of a quantised one
    param_groups.0.k                                   a number that steps have changed in a group

What shape the state has, only the optimizer knows: to load, it makes a state by a step with gradients of zero and rates
of zero, as torch's distributed checkpoints do, and that is filled. Invariant: `load_flat_state(flat_state(...))` gives
back the same optimizer to the bit; hyper-parameters are not state, they come from the config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from groundup.errors import ModelFileError, RecipeError
from groundup.optim.build import Optimizer

_GROUP = "param_groups"


class Stored(Protocol):
    """A whole tensor that lies in files."""

    @property
    def shape(self) -> torch.Size:
        """Of the whole tensor."""

    def fill(self, target: Tensor) -> None:
        """Copy what this rank holds of it into a tensor of the same whole shape."""

    def item(self) -> bool | int | float:
        """The number, of a tensor of one."""


def flat_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """`<parameter name>.<field>` -> state tensor (sharded like its parameter); empty before the first step.

    Raises RecipeError when an optimizer by name keeps something that is neither tensor nor number.
    """
    found = {
        f"{name}.{field}{inner}": tensor
        for part in optimizer.parts
        for name, parameter in _members(part)
        for field, value in part.state.get(parameter, {}).items()
        for inner, tensor in _tensors(f"{name}.{field}", value)
    }
    for index, values in enumerate(optimizer.moved_values()):
        found |= {f"{_GROUP}.{index}.{key}": _number(value) for key, value in values.items()}
    return found


def load_flat_state(optimizer: Optimizer, tensors: Mapping[str, Tensor | Stored]) -> None:
    """Take back what `flat_state` gave, whole or sharded tensors or such as lie in files; none is the state before the
    first step.

    A parameter of which nothing is given has not been updated yet. Load the weights afterwards: an optimizer by name
    may move them while it makes its state. Raises ModelFileError naming the first tensor that is missing, unknown or
    of another shape.
    """
    for group, values in zip(optimizer.param_groups, optimizer.start_values):
        group.update(values)
    if not tensors:
        for part in optimizer.parts:
            part.state.clear()
        return
    _make_state(optimizer)
    of_groups = {key: value for key, value in tensors.items() if key.startswith(_GROUP + ".")}
    of_parameters = {key: value for key, value in tensors.items() if key not in of_groups}
    _forget_unmoved(optimizer, of_parameters)
    _check_names(flat_state(optimizer).keys(), of_parameters.keys())
    for part in optimizer.parts:
        for name, parameter in _members(part):
            state = part.state.get(parameter, {})
            for field, value in state.items():
                state[field] = _filled(f"{name}.{field}", value, of_parameters)
    for key, value in of_groups.items():
        _set_group_value(optimizer, key, value)


def _make_state(optimizer: Optimizer) -> None:
    """Let every part make the state of a first step that moves nothing."""
    gradients = [(p, p.grad) for part in optimizer.parts for _, p in _members(part)]
    with torch.no_grad():
        for parameter, _ in gradients:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.set_rate_factor(0.0, 0)
    optimizer.step()
    for parameter, gradient in gradients:
        parameter.grad = gradient
    for group, values in zip(optimizer.param_groups, optimizer.start_values):
        group.update(values)


def _forget_unmoved(optimizer: Optimizer, tensors: Mapping[str, Tensor | Stored]) -> None:
    for part in optimizer.parts:
        for name, parameter in _members(part):
            state = part.state.get(parameter, {})
            wanted = {f"{name}.{f}{inner}" for f, value in state.items() for inner, _ in _tensors(name, value)}
            if wanted.isdisjoint(tensors):
                part.state.pop(parameter, None)


def _check_names(expected: Any, given: Any) -> None:
    wrong = sorted(expected ^ given)
    if wrong:
        what = "missing" if wrong[0] in expected else "unknown"
        raise ModelFileError(
            f"optimizer state: {len(wrong)} tensors do not fit, first {what}: {wrong[0][:90]}; "
            "go on with the optimizer that wrote it"
        )


def _tensors(key: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """(what to add to the name, tensor) of a piece of state; None is no state."""
    if isinstance(value, bool | int | float):
        yield "", _number(value)
    elif isinstance(value, Tensor):
        names = _inner_names(value)
        yield from ((f".{name}", getattr(value, name)) for name in names) if names else [("", value)]
    elif value is not None:
        raise RecipeError(
            f"optimizer state {key[:80]} is a {type(value).__name__}, which no checkpoint can hold; use another kind"
        )


def _inner_names(value: Tensor) -> list[str]:
    """Inner tensors of a quantised one (torch's protocol for tensor subclasses); none of plain and sharded ones."""
    if isinstance(value, DTensor) or not hasattr(value, "__tensor_flatten__"):
        return []
    names: list[str] = value.__tensor_flatten__()[0]
    return names


def _number(value: bool | int | float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def _filled(key: str, made: Any, tensors: Mapping[str, Tensor | Stored]) -> Any:
    """What the optimizer had made at this place, with the values given for it."""
    if isinstance(made, bool | int | float):
        return type(made)(tensors[key].item())
    if made is None:
        return None
    names = _inner_names(made)
    for name in names:
        _copy(f"{key}.{name}", getattr(made, name), tensors[f"{key}.{name}"])
    if not names:
        _copy(key, made, tensors[key])
    return made


@torch.no_grad()
def _copy(key: str, made: Tensor, value: Tensor | Stored) -> None:
    if value.shape != made.shape:
        raise ModelFileError(
            f"optimizer state {key[:80]}: shape {list(value.shape)}, the parameter has {list(made.shape)}"
        )
    if not isinstance(value, Tensor):
        value.fill(made)
        return
    if isinstance(made, DTensor) and not isinstance(value, DTensor):
        value = distribute_tensor(value.to(made.device), made.device_mesh, made.placements, src_data_rank=None)
    made.copy_(value)


def _set_group_value(optimizer: Optimizer, key: str, value: Tensor | Stored) -> None:
    _, index, name = key.split(".", 2)
    groups, start = optimizer.param_groups, optimizer.start_values
    if not index.isdigit() or int(index) >= len(groups) or name not in start[int(index)]:
        raise ModelFileError(f"optimizer state: {key[:90]} is unknown; go on with the optimizer that wrote it")
    groups[int(index)][name] = type(start[int(index)][name])(value.item())


def _members(part: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [pair for group in part.param_groups for pair in zip(group["names"], group["params"], strict=True)]
