"""AdamW with moments of 8 bits in blocks of 256 (Dettmers et al. 2022), by torchao: a quarter of the state.

Parameters must be whole: sharded ones are refused. Invariant: parameters of fewer than 4,096 numbers keep moments of 32
bits, as in the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.distributed.tensor import DTensor

from groundup.errors import RecipeError
from groundup.optim.adamw import AdamRates
from groundup.optim.groups import OneRule
from groundup.optim.optional import optimizer_class
from groundup.optim.transfer import Updates

BLOCK = 256
"""Numbers that share a scale."""


class AdamW8bitConfig(AdamRates, OneRule):
    """AdamW with 8-bit moments (arXiv 2110.02861); needs `pip install 'groundup[optim]'` and a compiler."""

    kind: Literal["adamw_8bit"] = "adamw_8bit"
    updates: ClassVar[Updates] = "elementwise"
    needs_whole_parameters: ClassVar[bool] = True
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of the hidden matrices; the other parts multiply it."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Part of a hidden matrix that decays per step, times the learning rate."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torchao's optimizer. Raises RecipeError when it is not installed, or the parameters are sharded."""
        if any(_is_in_parts(parameter) for group in groups for parameter in group["params"]):
            raise RecipeError(
                "optimizer.kind: adamw_8bit: a checkpoint cannot hold 8-bit moments of sharded or offloaded parameters;"
                " use one rank without offload, or kind: adamw or adafactor"
            )
        rule: Any = optimizer_class("torchao.optim.AdamW8bit", "run pip install 'groundup[optim]'")
        with unset_fake_temporarily():  # its tables are made at their first use, from numbers that fakes do not have
            for signed in (True, False):
                rule._subclass_zeros(torch.empty(BLOCK), signed, BLOCK)
        found: torch.optim.Optimizer = rule(groups, betas=(self.beta1, self.beta2), eps=self.epsilon)
        return found


def _is_in_parts(parameter: torch.Tensor) -> bool:
    """Whether other ranks, or another device, have to do with it."""
    if not isinstance(parameter, DTensor):
        return False
    mesh = parameter.device_mesh
    return bool(mesh.size() > 1 or mesh.device_type != parameter.device.type)
