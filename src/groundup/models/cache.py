"""Room for the keys and values of tokens already seen, so that decoding a token costs one token.

    keys[layer], values[layer]    [rows, kv_heads, max_time, head_dim], allocated once
    length                        number of positions filled; the same for all rows, since a batch has no padding

    hidden, cell                  [rows, layers, size]: all that a recurrent model keeps, however long the text

Invariant: positions `length` and beyond hold nothing that attention may look at.
"""

from __future__ import annotations

import torch


class KeyValueCache:
    """Keys and values of one batch. `model.prefill` and `model.decode` write into it and move `length` on."""

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return self.keys[0].shape[0]

    @property
    def max_time(self) -> int:
        """Number of positions there is room for."""
        return self.keys[0].shape[2]

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all sequences but `rows` (Int64 [kept], places in the batch), in that order."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]


class StateCache:
    """Hidden and cell states of one batch. `model.prefill` and `model.decode` replace them and move `length` on."""

    def __init__(self, hidden: torch.Tensor, cell: torch.Tensor) -> None:
        self.hidden = hidden
        self.cell = cell
        self.length = 0

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all sequences but `rows` (Int64 [kept], places in the batch), in that order."""
        self.hidden, self.cell = self.hidden[rows], self.cell[rows]
