"""Rows -> Batch: the narrow waist between data and training. Targets are made before it; a model never makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor

from groundup.tokens.packing import IGNORE, Row, Rows


@dataclass(frozen=True)
class Batch:
    """One micro-batch of `rows` rows of `time` tokens."""

    tokens: Int64[Tensor, "rows time"]
    targets: Int64[Tensor, "rows *heads time"]
    """What to predict at each position (a token, a label), IGNORE where nothing is; for several heads [rows, heads,
    time]."""
    segments: Int32[Tensor, "rows time"]
    """Number of the document within the row; attention stays inside one. Padding has a segment of its own."""
    positions: Int32[Tensor, "rows time"]
    """Position within the segment, from 0."""
    sources: Int64[Tensor, " rows"]
    """Mixture source that each row comes from."""
    parts: Int32[Tensor, "rows time"] | None = None
    """Which text of a pair each token belongs to; None for models that do not ask."""
    continues: Bool[Tensor, " rows"] | None = None
    """Whether a row goes on in its stream where the same row of the step before ended; None: none does."""
    answers: Int64[Tensor, "rows time"] | None = None
    """Token of an answer to score at each position, IGNORE elsewhere; None: no row is of preferences. In such a row
    targets are by number of the segment: 1 where an answer is the better one or good, 0 where it is bad."""
    groups: Int32[Tensor, "rows time"] | None = None
    """By number of the segment, which pair or group it belongs to; -1: to none (all of a row of text)."""
    references: Float32[Tensor, "rows time"] | None = None
    """By number of the segment, the answer's log-probability under the reference, in nats."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        found: dict[str, Tensor | None] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: each.to(device, non_blocking=True) for name, each in found.items() if each is not None}
        return replace(self, **moved)

    def columns(self, which: Int64[Tensor, " part"]) -> Batch:
        """Some positions of every row, in this order. Raises ValueError for rows of preferences, judged as wholes."""
        if self.answers is not None:
            raise ValueError(
                "rows of preferences are judged as wholes and cannot be split; use runtime.parallel.context=1"
            )
        planes = {
            "tokens": self.tokens,
            "targets": self.targets,
            "segments": self.segments,
            "positions": self.positions,
        }
        parts = None if self.parts is None else self.parts.index_select(-1, which)
        return replace(self, parts=parts, **{name: each.index_select(-1, which) for name, each in planes.items()})

    def inputs(self) -> dict[str, Tensor]:
        """What a model reads: `model(**batch.inputs(), targets=...)`."""
        found = {"tokens": self.tokens, "segments": self.segments, "positions": self.positions}
        more = {
            "parts": self.parts,
            "answers": self.answers,
            "groups": self.groups,
            "references": self.references,
        }
        return found | {name: plane for name, plane in more.items() if plane is not None}

    @property
    def token_targets(self) -> Int64[Tensor, "rows time"]:
        """Targets of the first head, the one that predicts tokens."""
        return self.targets if self.targets.ndim == 2 else self.targets[:, 0]


def collate(rows: Sequence[Row], sources: Sequence[int], continues: Sequence[bool] | None = None) -> Batch:
    """Stack rows into one batch on the CPU; `sources[i]` is the mixture source of `rows[i]`."""
    *planes, parts, answers, groups, references = zip(*rows)
    tokens, targets, segments, positions = (torch.from_numpy(np.stack(plane)) for plane in planes)
    return Batch(
        tokens,
        targets,
        segments,
        positions,
        torch.tensor(sources, dtype=torch.int64),
        parts=None if parts[0] is None else torch.from_numpy(np.stack(parts)),
        continues=None if continues is None else torch.tensor(continues, dtype=torch.bool),
        answers=_stacked(answers, IGNORE),
        groups=_stacked(groups, -1),
        references=_stacked(references, 0.0),
    )


def _stacked(planes: Sequence[NDArray[Any] | None], absent: float) -> Tensor | None:
    """A plane of which some rows have none, which are filled with `absent`; None when no row has it."""
    first = next((plane for plane in planes if plane is not None), None)
    if first is None:
        return None
    return torch.from_numpy(np.stack([np.full_like(first, absent) if plane is None else plane for plane in planes]))


def ordered_batches(rows: Rows, rows_per_batch: int, max_rows: int = 0) -> Iterator[Batch]:
    """All rows in order (validation), or only the first `max_rows`; the last batch may be smaller. Source is 0."""
    total = min(max_rows or rows.num_rows, rows.num_rows)
    for start in range(0, total, rows_per_batch):
        chosen = range(start, min(start + rows_per_batch, total))
        yield collate([rows.row(index) for index in chosen], [0] * len(chosen))
