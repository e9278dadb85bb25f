"""What several ranks may share of a model's layers: path of a module -> how its parameters are laid out over them.

    column    rows of the matrix (and its bias) in `pieces` groups that stay together; the input is whole
    row       columns of the matrix; what the ranks get is added up, the bias comes on top
    table     a row for each token of the vocabulary
    shared    no parameters of its own, but it speaks with the other ranks

An adapter is laid out as its layer is. Whatever is not named, every rank has whole. Invariant: the plan is read off the
kinds of modules, so it fits a part of a model too.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

from groundup.models.attention import Attention
from groundup.models.heads import ChunkLoss, LanguageModelHead
from groundup.models.layers import Embedding, FeedForward, Linear, SwiGLU

How = Literal["column", "row", "table", "shared"]


class Layout(NamedTuple):
    """How the parameters of one module are laid out."""

    how: How
    pieces: int = 1
    """Heads, or columns of the feed-forward part: what is never cut."""


def tensor_plan(model: nn.Module) -> dict[str, Layout]:
    """The plan of everything in `model` that is built of our own layers."""
    plan: dict[str, Layout] = {}
    # What a layer is part of comes before it, so the layer is planned by then.
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            plan[name] = Layout("shared")
            plan[f"{name}.query"] = Layout("column", module.num_heads)
            plan[f"{name}.key"] = plan[f"{name}.value"] = Layout("column", module.num_kv_heads)
            plan[f"{name}.output"] = Layout("row")
        elif isinstance(module, SwiGLU | FeedForward):
            plan[name] = Layout("shared")
            width = Layout("column", module.up.out_size)
            plan |= {f"{name}.{part}": width for part in ("gate", "up") if getattr(module, part) is not None}
            plan[f"{name}.down"] = Layout("row")
        elif isinstance(module, Embedding | LanguageModelHead):
            plan[name] = Layout("table")
        elif isinstance(module, ChunkLoss):
            plan[name] = Layout("shared")
        elif isinstance(module, Linear) and module.adapter is not None and name in plan:
            plan[f"{name}.adapter"] = plan[name]
    return plan
