"""A decoder cut into stages: consecutive blocks each, the first with the embedding, the last with norm and losses.

    tokens -> [embedding, blocks 0 .. 3] --states--> [blocks 4 .. 7] --states--> [blocks 8 .. 11, norm, head] -> losses

A tied table is needed at both ends, so both keep it (`shared`); whoever trains adds up the two gradients.
Invariant: the model keeps only what its own stages need, under the names of the whole model; all stages one after the
other compute what the whole model computes, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from groundup.errors import RecipeError
from groundup.models.adapters import tell_rows
from groundup.models.context import RowContext
from groundup.models.decoder import Decoder
from groundup.models.network import Losses, Network
from groundup.models.row_part import RowPart

States = Float[Tensor, "rows own hidden"]


class Stage(nn.Module):
    """A part of a decoder that is called as a whole; its modules are the decoder's own."""

    def __init__(self, model: Decoder, blocks: range) -> None:
        super().__init__()
        self.numbers = blocks
        self.is_first, self.is_last = blocks.start == 0, blocks.stop == model.config.num_layers
        # In a tuple, so that the blocks of the decoder's other stages do not become a part of this one.
        self._model = (model,)
        own: list[nn.Module | None] = [*(model.layers[number] for number in blocks)]
        own += [model.embedding, model.positions] if self.is_first else []
        own += [model.norm, model.head, *([model.embedding] if model.config.tied else [])] if self.is_last else []
        self.parts = nn.ModuleList(part for part in own if part is not None)

    def forward(
        self,
        x: Int[Tensor, "rows time"] | States,
        segments: Int[Tensor, "rows length"],
        positions: Int[Tensor, "rows time"],
        keys: Int32[Tensor, " rows"] | None = None,
        targets: Int[Tensor, "rows time"] | None = None,
        row_weights: Float[Tensor, " rows"] | None = None,
    ) -> States | Losses | Float[Tensor, "rows time vocab"]:
        """Tokens (first stage) or the states of the stage before -> states; from the last stage as `Decoder.forward`.

        `segments`: of whole rows, also where this rank has some of their positions only (`model.line`). `keys`: of the
        rows, for dropout.
        """
        (model,) = self._model
        split = positions.shape[1] < segments.shape[1]  # else a caller reads whole rows, as it may with a line too
        context = RowContext(keys, part=RowPart.of(model.line, segments) if split else None)
        tell_rows(self, context)
        found = self._computed(model, x, segments, positions, context, targets, row_weights)
        first = found[0] if isinstance(found, tuple) else found
        if first.requires_grad:
            # Other micro-batches may have passed when this one comes back, and blocks compute again what they forgot.
            first.register_hook(lambda gradient: tell_rows(self, context))  # type: ignore[no-untyped-call]
        return found

    def _computed(
        self,
        model: Decoder,
        x: Tensor,
        segments: Tensor,
        positions: Tensor,
        context: RowContext,
        targets: Tensor | None,
        row_weights: Tensor | None,
    ) -> States | Losses | Float[Tensor, "rows time vocab"]:
        if self.is_first:
            x = model.entered(x, positions, context)
        elif model.lane is not None:
            model.lane.begin(positions.shape[1])
        x = model.through(x, self.numbers, segments, positions, context)
        if not self.is_last:
            return x
        x = model.norm(x)
        x = x if model.lane is None else model.lane.gather(x)
        table = model.embedding.weight if model.head.weight is None else model.head.weight
        if targets is None:
            return model.head.logits(x, table)
        loss_sums, counts = model.head(x, table, targets, row_weights)
        return loss_sums, counts

    def example_input(self, rows: int, time: int) -> Tensor:
        """What `forward` takes, without content (on "meta")."""
        return torch.empty(rows, time, dtype=torch.int64, device="meta") if self.is_first else self._states(rows, time)

    def example_output(self, rows: int, time: int) -> Tensor | tuple[Tensor, ...]:
        """What `forward` gives where there are targets, without content (on "meta")."""
        if not self.is_last:
            return self._states(rows, time)
        sums = torch.empty(rows, dtype=torch.float32, device="meta", requires_grad=True)
        return sums, torch.empty(rows, dtype=torch.int64, device="meta")

    def _states(self, rows: int, time: int) -> Tensor:
        (model,) = self._model
        # Ranks that share the layers pass on their own parts of time, each to the one in its place.
        own = time if model.lane is None else -(-time // model.lane.parts)
        shape = (rows, own, model.config.hidden_size)
        return torch.empty(shape, dtype=model.compute_dtype, device="meta", requires_grad=True)


def divide(model: Network, parts: Sequence[range]) -> list[nn.Module]:
    """Cut `model` (on "meta") down to the blocks of `parts`, with what belongs to them; returns a stage for each part.

    What is left out is named by `model.elsewhere`. Raises RecipeError for a model that cannot be divided.
    """
    if not isinstance(model, Decoder):
        raise RecipeError(
            f"runtime.parallel.pipeline: a model of kind {model.config.kind} has no stages; use 1, or a decoder"
        )
    config, whole = model.config, {name for name, _ in model.named_parameters()}
    first = any(part.start == 0 for part in parts)
    last = any(part.stop == config.num_layers for part in parts)
    own = {number for part in parts for number in part}
    for number in range(config.num_layers):
        if number not in own:
            model.layers[number] = nn.Identity()  # a place without parameters, so that the others keep their names
    for name, kept in (
        ("embedding", first or (last and config.tied)),
        ("positions", first),
        ("norm", last),
        ("head", last),
    ):
        if not kept:
            setattr(model, name, None)
    model.elsewhere = frozenset(whole - {name for name, _ in model.named_parameters()})
    if config.tied and first != last:
        model.shared = frozenset({model.embedding_name})
    return [Stage(model, part) for part in parts]
