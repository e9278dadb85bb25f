"""Blocks compiled one by one: all layers share one graph, so compiling costs one block's time, not the model's.

Invariant: a compiled unit computes what it did, to rounding, and its parameter names do not change.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn


def compile_units(units: Iterable[nn.Module]) -> None:
    """Compile each module in place, at its first call, for the shapes it sees (another shape compiles once more)."""
    for unit in units:
        unit.compile(dynamic=False, fullgraph=True)


def uncompiled() -> AbstractContextManager[None]:
    """Run compiled units eagerly inside: for odd shapes that are not worth a compilation."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
