"""Rows -> Batch: the narrow waist between data and training. Targets are made before it; a model never makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from groundup.tokens.packing import Row, Rows


@dataclass(frozen=True)
class Batch:
    """One micro-batch of `rows` rows of `time` tokens."""

    tokens: Int64[Tensor, "rows time"]
    targets: Int64[Tensor, "rows time"]
    """The token to predict at each position, IGNORE where nothing is predicted."""
    segments: Int32[Tensor, "rows time"]
    """Number of the document within the row; attention stays inside one. Padding has a segment of its own."""
    positions: Int32[Tensor, "rows time"]
    """Position within the segment, from 0."""
    sources: Int64[Tensor, " rows"]
    """Mixture source that each row comes from."""
    continues: Bool[Tensor, " rows"] | None = None
    """Whether a row goes on in its stream where the same row of the step before ended; None: none does."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {n: p if p is None else p.to(device, non_blocking=True) for n, p in parts.items()}
        return Batch(**moved)


def collate(rows: Sequence[Row], sources: Sequence[int], continues: Sequence[bool] | None = None) -> Batch:
    """Stack rows into one batch on the CPU; `sources[i]` is the mixture source of `rows[i]`."""
    tokens, targets, segments, positions = (torch.from_numpy(np.stack(planes)) for planes in zip(*rows))
    going_on = None if continues is None else torch.tensor(continues, dtype=torch.bool)
    return Batch(tokens, targets, segments, positions, torch.tensor(sources, dtype=torch.int64), going_on)


def ordered_batches(rows: Rows, rows_per_batch: int, max_rows: int = 0) -> Iterator[Batch]:
    """All rows in order (validation), or only the first `max_rows`; the last batch may be smaller. Source is 0."""
    total = min(max_rows or rows.num_rows, rows.num_rows)
    for start in range(0, total, rows_per_batch):
        chosen = range(start, min(start + rows_per_batch, total))
        yield collate([rows.row(index) for index in chosen], [0] * len(chosen))
