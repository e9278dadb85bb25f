"""Activation recomputation: a block keeps its input only, and computes the rest again in the backward pass.

Invariant: losses and gradients are unchanged to the bit; memory falls to one block's activations plus every block's
input, for about a third more time. Must be applied before compiling and sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(blocks: Iterable[nn.Module]) -> None:
    """Make each block recompute its forward in the backward. Names of parameters stay as they are."""
    for block in blocks:
        block.forward = _recomputed(block.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    # A plain function, not functools.partial: torch.compile only enters frames that are not torch's own.
    def recomputed(*inputs: Any, **named: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return recomputed
