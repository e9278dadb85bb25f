"""Activation recomputation: a block forgets what its backward pass needs, and computes it again there.

    full        keeps a block's input only                                     least memory, about a third more time
    selective   keeps also what attention and every other matrix product gave  between that and keeping everything
    every: N    so does one block of N, the others keep everything             (with either of the two)
    budget: s   torch.compile chooses what to keep, a share `s` of what it would keep by itself (compiled blocks only)

Invariant: names of parameters stay; losses and gradients are unchanged, to the bit where blocks are not compiled (a
compiled block rounds where its operators are fused, which is elsewhere when they are computed again). Must be applied
before compiling and sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from groundup.errors import RecipeError

Kind = Literal["full", "selective"]

PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::_scaled_mm", "groundup::product"})
"""Matrix products, of which `selective` keeps every other."""
KEPT = frozenset(
    {
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::_scaled_dot_product_cudnn_attention",
        "aten::_scaled_dot_product_attention_math_for_mps",
        "groundup::attention",
        "groundup::both_ways",
        # What ranks that compute a layer together have added up: computing it again would be a message again.
        "_c10d_functional::reduce_scatter_tensor",
        "_c10d_functional::all_reduce",
    }
)
"""Operators whose results `selective` always keeps: small against the work that they are. A layer of an LSTM is one
operator, whose result would be the whole layer's, so there `selective` is `full`."""


@dataclass(frozen=True)
class Recompute:
    """What blocks compute again; by default nothing."""

    kind: Kind | None = None
    every: int = 1
    """Of so many blocks one computes again."""
    budget: float | None = None
    """Share of the activations that compiled blocks may keep."""

    @classmethod
    def of(cls, asked: bool | Kind | Recompute) -> Recompute:
        """`asked`, where True stands for everything."""
        if isinstance(asked, Recompute):
            return asked
        return cls("full" if asked is True else asked or None)


def recompute_blocks(blocks: Iterable[nn.Module], kind: Kind = "full", every: int = 1) -> None:
    """Make one block of `every` recompute its forward in the backward, from the first one on.

    The last block's activations are needed at once, so that recomputing it spares little.
    """
    recomputed = _recomputed if kind == "full" else _selectively_recomputed
    for block in list(blocks)[::every]:
        block.forward = recomputed(block.forward)


# Plain functions, not functools.partial: torch.compile only enters frames that are not torch's own. Noise needs no
# random state, as it is a function of the rows' keys.
def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def recomputed(*inputs: Any, **named: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return recomputed


def _selectively_recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def recomputed(*inputs: Any, **named: Any) -> Any:
        return checkpoint(
            forward, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_selection, **named
        )

    return recomputed


def _selection() -> Any:
    """What one forward of a block keeps, and its backward finds."""
    products = 0

    def policy(context: Any, operator: Any, *inputs: Any, **named: Any) -> CheckpointPolicy:
        nonlocal products
        name = operator.name()
        products += name in PRODUCTS
        keeps = name in KEPT or (name in PRODUCTS and products % 2 == 1)
        return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]


# By this name torch.compile's cache on the disk knows the choice; without one it caches no selective graph.
_selection.cache_hash = "groundup: attention and every other product"  # type: ignore[attr-defined]


def limit_kept(blocks: Sequence[nn.Module], compiled: Sequence[nn.Module], budget: float) -> None:
    """Let compiled blocks keep a share `budget` of the activations that they would keep (0: their inputs only).

    Raises RecipeError where no block is compiled, since nobody else chooses.
    """
    ids = {id(unit) for unit in compiled}
    chosen = [block for block in blocks if id(block) in ids]
    if not chosen:
        raise RecipeError(
            "runtime.recompute_budget: torch.compile does not compile the blocks of this model, and nothing else"
            " chooses what they keep; use runtime.recompute: full or selective"
        )
    for block in chosen:
        block.forward = _limited(block.forward, budget)


def _limited(forward: Callable[..., Any], budget: float) -> Callable[..., Any]:
    def limited(*inputs: Any, **named: Any) -> Any:
        if not torch.compiler.is_compiling():  # validation runs compiled blocks uncompiled
            return forward(*inputs, **named)
        with torch.autograd.graph.region_activation_memory_budget(budget):
            return forward(*inputs, **named)

    return limited
