"""Several ranks that compute every layer together, as the layers of one of them see it.

    embedding   own rows of the table --total--> x --cut--> own part of time
    block       own part of time --gather--> all of it -> own heads, own width --scatter--> own part of time
    head        own part of time --gather--> all of it -> scores of own rows --highest, total--> losses

Which parameters are shared out, and how, a model says of itself (`models.tensor_plan`); who the ranks are and how they
speak, parallel.tensor brings from outside. Invariant: without a lane every layer computes what it always did.
"""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial


class Lane(Protocol):
    """This rank among those that share the layers; all of them must call the same, in the same order."""

    part: int
    """Its number among them."""
    parts: int
    """How many they are."""

    def begin(self, time: int) -> None:
        """Rows are so long from now on, for a stage whose rows were cut elsewhere."""

    def cut(self, x: Float[Tensor, "rows time size"]) -> Float[Tensor, "rows own size"]:
        """Own part of time of what all ranks have alike; the gradient is this rank's part of a sum."""

    def gather(self, x: Float[Tensor, "rows own size"]) -> Float[Tensor, "rows time size"]:
        """All of time; the gradients of all ranks are added up on the way back."""

    def scatter(self, x: Float[Tensor, "rows time size"]) -> Float[Tensor, "rows own size"]:
        """Own part of time of the sum over the ranks."""

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks; so is its gradient."""

    def highest(self, x: Tensor) -> Tensor:
        """The maximum over the ranks, without gradient."""

    def join(self, x: Float[Tensor, "*batch own"], size: int) -> Float[Tensor, "*batch size"]:
        """What the ranks have of a last dimension of `size` numbers, behind each other."""


def local(parameter: Tensor) -> Tensor:
    """What this rank has of a parameter that several ranks share out; others are given back as they are.

    Of one that each of them has whole, each uses a part (its heads, its part of time), so gradients are parts of a sum.
    """
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.to_local(grad_placements=[Partial() if p.is_replicate() else p for p in parameter.placements])


def local_rows(parameter: Tensor, rows: tuple[int, int] | None) -> Tensor:
    """As `local`; of a parameter that each rank has whole, only the rows that this one uses (None: all)."""
    found = local(parameter)
    return found if rows is None else found[rows[0] : rows[1]]
