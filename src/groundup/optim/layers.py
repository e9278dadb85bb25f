"""Layers of a pretrained model -> which of them learn, from which step on, and how fast.

    depth   0 embeddings   1 ... L layers   L + 1 head
    rate    layer_decay ** (L + 1 - depth)                        (Howard & Ruder 2018, arXiv 1801.06146)
    start   unfreeze_every_steps * (L + 1 - depth)                gradual unfreezing, from the top

Invariant: what a group does is a function of the step, so a resumed run goes on as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from groundup.config import Config
from groundup.optim.build import Optimizer


class LayersConfig(Config):
    """How much of a pretrained body learns."""

    trained_layers: int | None = Field(default=None, ge=0)
    """Layers that learn, counted from the top; 0: only the head. Embeddings learn only when all do (left out)."""
    unfreeze_every_steps: int = Field(default=0, ge=0)
    """Gradual unfreezing: the head learns at once, each layer below so many steps after the one above (0: all at once).
    """
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each layer over that of the layer above it."""

    def lowest(self, top: int) -> int:
        """Depth of the lowest layer that learns, where the head's is `top`."""
        return 0 if self.trained_layers is None else max(1, top - self.trained_layers)

    def first_step(self, depth: int, top: int) -> int:
        """The step from which on the layers of this depth learn, where the head's is `top`."""
        return self.unfreeze_every_steps * (top - depth)

    def obstacle(self, num_layers: int, steps: int | None, *, embeddings: bool = True) -> str | None:
        """What of it cannot be in a model of so many layers and a phase of so many steps (None: not known so far).

        `embeddings`: whether the tables below the layers learn too where all layers do.
        """
        asked = self.trained_layers
        if asked is not None and asked > num_layers:
            return (
                f"layers.trained_layers: {asked} is more than the model's {num_layers} layers; lower it, or leave it "
                "out to train all there is"
            )
        top = num_layers + 1
        if steps is None or asked == 0:
            return None
        lowest = max(self.lowest(top), 0 if embeddings else 1)
        last = self.first_step(lowest, top)
        if last < steps:
            return None
        what = "the embeddings" if lowest == 0 else f"layer {lowest}"
        return (
            f"layers.unfreeze_every_steps: {self.unfreeze_every_steps} lets {what} learn from step {last} on, and the "
            f"phase has {steps}; give at most {(steps - 1) // (top - lowest)}, or fewer trained_layers"
        )


def by_layer(optimizer: Optimizer, depths: Mapping[str, int], config: LayersConfig) -> None:
    """Split the groups of a fresh optimizer by layer, each with its rate and its `first_step`."""
    top = max(depths.values())
    for part in optimizer.parts:
        groups: list[dict[str, Any]] = []
        for group in part.param_groups:
            for depth in sorted({depths[name] for name in group["names"]}, reverse=True):
                chosen = [i for i, name in enumerate(group["names"]) if depths[name] == depth]
                rate = group["base_learning_rate"] * config.layer_decay ** (top - depth)
                groups.append(
                    {
                        **group,
                        "params": [group["params"][i] for i in chosen],
                        "names": [group["names"][i] for i in chosen],
                        "lr": _as(group["lr"], rate),
                        "base_learning_rate": rate,
                        "first_step": config.first_step(depth, top),
                    }
                )
        part.param_groups[:] = groups
    optimizer.remember_start()


def _as(rate: float | Tensor, value: float) -> float | Tensor:
    """`value` as this rule keeps its rates: torchao's compiled step has a tensor for each group."""
    return torch.full_like(rate, value) if isinstance(rate, Tensor) else value
