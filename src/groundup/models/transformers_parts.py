"""What is put around a class of transformers, or in place of a part of it, so that it is a model like the others.

Invariant: nothing here knows which class it is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.models.heads import LanguageModelHead


class Output(nn.Module):
    """Stands where the class had its output matrix, which our head or, tied, the table has."""

    def __init__(self, head: LanguageModelHead, table: nn.Embedding, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.bias = bias
        self.passing = bias is None
        """Give the states back as they are."""
        self._outside = (head, table)

    def forward(self, states: Tensor) -> Tensor:
        """States -> scores, or states again."""
        if self.passing:
            return states
        head, table = self._outside
        return F.linear(states, table.weight if head.weight is None else head.weight, self.bias)


class KeyValues:
    """transformers' cache, as generation asks for it."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.length = 0

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all sequences but `rows`, in that order."""
        self.cache.batch_select_indices(rows)


def keep_with_the_weights(body: nn.Module) -> None:
    """Make parameters that never learn of the numbers that a class keeps beside its weights and its files hold.

    Such are the biases by which DeepSeek-V3 and its kin choose experts: transformers' classes read and never change
    them. So they are saved, exported and resumed as weights are.
    """
    for module in body.modules():
        for name in [name for name in module._buffers if name not in module._non_persistent_buffers_set]:
            buffer = module._buffers[name]
            if buffer is not None and buffer.is_floating_point():
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(buffer.float(), requires_grad=False))


def positions_within(segments: Int[Tensor, "rows time"]) -> Int[Tensor, "rows time"]:
    """Places within the segments, from 0."""
    places = torch.arange(segments.shape[1], device=segments.device).expand(segments.shape)
    begins = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    starts: Tensor = torch.where(begins, places, 0).cummax(dim=1).values
    return places - starts


def mask_of(segments: Int[Tensor, "rows time"]) -> Float[Tensor, "rows 1 time time"]:
    """Added to the scores of attention: 0 for earlier tokens of the same document, else as good as minus infinity."""
    time = segments.shape[1]
    earlier = torch.ones(time, time, dtype=torch.bool, device=segments.device).tril()
    seen = (segments[:, :, None] == segments[:, None, :]) & earlier
    return torch.where(seen, 0.0, torch.finfo(torch.bfloat16).min)[:, None]
