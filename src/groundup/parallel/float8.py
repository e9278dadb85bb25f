"""Linear layers -> layers whose three products are computed in fp8 by torchao, with weights gathered in fp8.

    x (bf16), weight (float32 master) --scaled by the largest magnitude, cast--> e4m3 --product--> bf16
    gradient of the answer --as well--> e5m2 --two products--> gradients of x and weight, bf16

    sharded: each rank casts its part by the scale of the whole weight; a byte a number is gathered instead of two

Scales are those of whole tensors at hand (torchao's recipe "tensorwise"), so nothing is carried from step to step.
Invariant: parameters keep their names and their float32 masters; weights become the same fp8 numbers whatever the
ranks that hold them in parts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from groundup.errors import RecipeError, ResourceError
from groundup.parallel.mesh import sharding_mesh

MULTIPLE = 16
"""The units of a GPU take matrices whose sides are multiples of this."""
LEAST_CAPABILITY = (8, 9)
"""NVIDIA's compute capability from which on there are such units: Ada, Hopper and later."""


def require(device: torch.device) -> None:
    """Raise ResourceError where nothing computes in fp8: this device has no such units, or torchao is missing."""
    why = _obstacle(device)
    if why is not None:
        raise ResourceError(f"precision: fp8 needs a GPU that has it, and {why}; use precision: bf16")
    _torchao()


def _obstacle(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.version.hip:
        name = torch.cuda.get_device_properties(device).gcnArchName
        return None if name.startswith(("gfx94", "gfx95", "gfx12")) else f"{name[:20]} has none"
    found = torch.cuda.get_device_capability(device)
    if found >= LEAST_CAPABILITY:
        return None
    return f"{torch.cuda.get_device_name(device)[:40]} is of compute capability {found[0]}.{found[1]}, below 8.9"


def _torchao() -> Any:
    """torchao's public part for training in fp8. Raises ResourceError when it cannot be imported."""
    try:
        return importlib.import_module("torchao.float8")
    except ImportError as error:
        raise ResourceError(
            "precision: fp8 needs the package torchao; install it: pip install 'groundup[fp8]'", details=[str(error)]
        ) from None


def convert(
    model: nn.Module, names: Sequence[str], mesh: DeviceMesh | None = None, *, emulate: bool = False
) -> list[str]:
    """Convert the linear layers of these paths, of a model on any device, before it is sharded; returns which.

    Layers with a side that is no multiple of 16 stay as they are. `emulate`: the products of the same fp8 numbers by
    float32, on any device, for tests. Raises RecipeError when no layer fits.
    """
    fitting = [name for name in names if _fits(model.get_submodule(name))]
    if not fitting:
        raise RecipeError(
            f"precision: fp8 needs layers whose sides are multiples of {MULTIPLE}, and none of {len(names)} is;"
            " use other sizes, or precision: bf16"
        )
    torchao = _torchao()
    in_parts = mesh is not None and sharding_mesh(mesh).shape[-1] > 1
    for name in fitting:
        outer, _, inner = name.rpartition(".")
        setattr(model.get_submodule(outer), inner, _as_torchs(model.get_submodule(name)))
    config = torchao.Float8LinearConfig(
        enable_fsdp_float8_all_gather=in_parts,
        emulate=emulate,
        pad_inner_dim=True,  # rows times positions are the inner side of a weight's gradient, and any number
    )
    chosen = set(fitting)
    torchao.convert_to_float8_training(model, config=config, module_filter_fn=lambda module, name: name in chosen)
    if in_parts:
        # One message for the scales of all weights, which may have changed since the last forward.
        model.register_forward_pre_hook(lambda *_: torchao.precompute_float8_dynamic_scale_for_fsdp(model))
    return fitting


def _fits(layer: nn.Module) -> bool:
    weight = layer.weight
    return isinstance(weight, torch.Tensor) and all(side % MULTIPLE == 0 for side in weight.shape)


def _as_torchs(layer: nn.Module) -> nn.Linear:
    """torch's own linear layer over the same parameters, which is the kind that torchao knows."""
    if isinstance(layer, nn.Linear):
        return layer
    weight = layer.weight
    assert isinstance(weight, nn.Parameter), "a linear layer that learns"
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
    for part, parameter in layer.named_parameters(recurse=False):
        made.register_parameter(part, parameter)
    return made
