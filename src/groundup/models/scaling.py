"""A model that is a larger copy of a base model: starting values and rates that keep what was found on the base.

    w = hidden_size / base_hidden_size      d = num_layers / base_num_layers

    parameter                                start       rate (Adam)
    hidden matrices                          std / sqrt(w)   / w          1 / sqrt(inputs) does the first by itself
    matrices that end a residual branch      further / d     further / d  the branch counts 1 / d, folded into them
    output matrix                            std / w         / w
    embedding, gains, other biases           as they are     as they are

muP (Yang et al. 2022, arXiv 2203.03466, table 8) over width and CompleteP (Dey et al. 2025, arXiv 2505.01618, alpha 1)
over depth, both written without factors in the forward pass, so that nothing is left of it at export. What an
optimizer's rate and decay become is in `optim.transfer`.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from groundup.config import Config


class ScalingConfig(Config):
    """The base model that learning rates were found on; this one keeps its width of heads and its other proportions."""

    base_hidden_size: int = Field(ge=2)
    """Width of the base model's residual stream."""
    base_num_layers: int = Field(ge=1)
    """Blocks of the base model."""
    base_num_heads: int = Field(ge=1)
    """Query heads of the base model: their number grows with the width, their own width stays."""


class Growth(NamedTuple):
    """How many times wider and deeper than the base model, as far as that concerns one parameter."""

    width: float = 1.0
    """Of the inputs that its product sums over."""
    depth: float = 1.0
    """Of the blocks that add up, for what ends a residual branch."""
