"""Sources and shares -> sample i = (source, row), by arithmetic: no state, no list of indices, no dependence on ranks.

    step s, slot j --pattern of slots--> source, its k-th row in use --k = epoch * num_rows + i--> permutation(epoch)(i)

The rows that each source has per step are fixed, so every step has every source. Within a source every row is used once
before any is used again. In continuous order a slot reads its source from a place of its own on, window after window:

    slot j of c     row j * num_rows / c + s in step s, from the end on at the beginning; `continues` but for row 0

Invariant: what a step trains on is a function of (sources, rows_per_step, seed, step) alone,
so resuming needs only the step number, whatever the number of ranks or micro-batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.tokens.batches import Batch, collate
from groundup.tokens.draws import mix
from groundup.tokens.packing import DrawnRows, Row, Rows

FEISTEL_ROUNDS = 8
ROWS_AT_ONCE = 512
_UINT64 = np.uint64


def permute(index: NDArray[np.int64], size: int, *key: object) -> NDArray[np.int64]:
    """Permutation of 0 ... size-1 that belongs to `key`, applied to each of `index`; O(1) memory and time per element.

    A balanced Feistel network over the smallest even number of bits that holds `size`, walked until the result is in
    range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002), with splitmix64 as round function.
    """
    return _walk(index, size, _round_keys(key)[:, None])


def _walk(index: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """`index` permuted within `size`; `keys` are [rounds, 1], or [rounds, n] with keys of its own for each of n."""
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = np.broadcast_to(keys, (len(keys), len(index)))
    result = index.astype(_UINT64)
    outside = np.arange(len(index))
    while len(outside):
        result[outside] = _feistel(result[outside], half_bits, keys[:, outside])
        outside = outside[result[outside] >= _UINT64(size)]
    return result.astype(np.int64)


def _round_keys(key: tuple[object, ...]) -> NDArray[np.uint64]:
    digest = hashlib.shake_256(repr(key).encode()).digest(8 * FEISTEL_ROUNDS)
    return np.frombuffer(digest, dtype="<u8").astype(_UINT64)


def _feistel(value: NDArray[np.uint64], half_bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shift, mask = _UINT64(half_bits), _UINT64((1 << half_bits) - 1)
    left, right = value >> shift, value & mask
    for key in keys:
        left, right = right, left ^ (mix(right + key) & mask)
    return (left << shift) | right


@dataclass(frozen=True)
class MixtureSource:
    """A dataset and its share of the rows of every step."""

    rows: Rows
    share: float


def rows_by_share(shares: Sequence[float], rows_per_step: int) -> list[int]:
    """Whole rows per step for each share: at least 1 each, `rows_per_step` in all, the rest by largest remainder."""
    total = sum(shares)
    ideal = [share / total * rows_per_step for share in shares]
    rows = [max(1, int(value)) for value in ideal]
    while (missing := rows_per_step - sum(rows)) != 0:
        step = 1 if missing > 0 else -1
        movable = [i for i in range(len(rows)) if step > 0 or rows[i] > 1]
        best = max(movable, key=lambda i: (step * (ideal[i] - rows[i]), -i))
        rows[best] += step
    return rows


Order = Literal["shuffled", "continuous"]
"""Rows of a source in random order, or each slot along its stream, for models that carry a state."""


class Mixture:
    """Sources mixed in fixed shares. Row `j` of step `s` is sample `s * rows_per_step + j`.

    Raises DataError for an empty source, two sources of one name, a share that is not above 0, rows of different
    lengths, or more sources than rows in a step.
    """

    def __init__(
        self, sources: Sequence[MixtureSource], rows_per_step: int, seed: int, order: Order = "shuffled"
    ) -> None:
        _check(sources, rows_per_step)
        self.sources = tuple(sources)
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.order: Order = order
        self.context_length = sources[0].rows.context_length
        self.rows_of_sources = rows_by_share([source.share for source in sources], rows_per_step)
        self._slots = _interleave(self.rows_of_sources)
        self._steps_at_once = max(1, ROWS_AT_ONCE // rows_per_step)
        self._cached: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def names(self) -> list[str]:
        """Names of the sources, in order."""
        return [source.rows.name for source in self.sources]

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each source's rows are seen in `steps` steps."""
        pairs = zip(self.sources, self.rows_of_sources)
        return {source.rows.name: steps * rows / source.rows.num_rows for source, rows in pairs}

    def sample(self, i: int) -> tuple[int, int]:
        """(source, row) of sample `i` of the whole run."""
        step, slot = divmod(i, self.rows_per_step)
        return int(self._slots[slot]), int(self._rows_of_step(step)[slot])

    def batch(self, step: int, first_row: int, num_rows: int) -> Batch:
        """Rows `first_row` to `first_row + num_rows` of a step as one micro-batch."""
        if not 0 <= first_row < first_row + num_rows <= self.rows_per_step:
            raise IndexError(f"rows {first_row} to {first_row + num_rows} of a step of {self.rows_per_step}")
        chosen = slice(first_row, first_row + num_rows)
        sources = self._slots[chosen].tolist()
        indices = self._rows_of_step(step)[chosen].tolist()
        continues = [step > 0 and index > 0 for index in indices] if self.order == "continuous" else None
        first = step * self.rows_per_step + first_row
        rows = [self._row(s, i, draw) for draw, (s, i) in enumerate(zip(sources, indices), start=first)]
        return collate(rows, sources, continues)

    def _row(self, source: int, index: int, draw: int) -> Row:
        rows = self.sources[source].rows
        return rows.drawn(index, draw) if isinstance(rows, DrawnRows) else rows.row(index)

    def sample_ids_hash(self, step: int) -> str:
        """16 hex digits over the source names and rows of a step, in order; equal for any ranks and micro-batches."""
        names, rows = self.names, self._rows_of_step(step).tolist()
        text = "\n".join(f"{names[source]}/{row}" for source, row in zip(self._slots.tolist(), rows))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _rows_of_step(self, step: int) -> NDArray[np.int64]:
        """Row of each slot of a step [rows_per_step]; a few steps are worked out together, for the cost of one."""
        block, place = divmod(step, self._steps_at_once)
        if self._cached[0] != block:
            self._cached = (block, self._rows_of_block(block))
        rows: NDArray[np.int64] = self._cached[1][place]
        return rows

    def _rows_of_block(self, block: int) -> NDArray[np.int64]:
        steps = self._steps_at_once
        rows = np.empty((steps, self.rows_per_step), dtype=np.int64)
        for number, (source, count) in enumerate(zip(self.sources, self.rows_of_sources)):
            if self.order == "continuous":
                rows[:, self._slots == number] = _rows_in_order(source.rows.num_rows, count, block * steps, steps)
                continue
            used = np.arange(block * steps * count, (block + 1) * steps * count, dtype=np.int64)
            rows[:, self._slots == number] = self._rows_of_uses(source, used).reshape(steps, count)
        return rows

    def _rows_of_uses(self, source: MixtureSource, used: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, index = np.divmod(used, source.rows.num_rows)
        seen, which = np.unique(epochs, return_inverse=True)
        keys = np.stack([_round_keys((self.seed, source.rows.name, epoch)) for epoch in seen.tolist()], axis=1)
        return _walk(index, source.rows.num_rows, keys[:, which])


def _rows_in_order(num_rows: int, count: int, first_step: int, steps: int) -> NDArray[np.int64]:
    """Rows [steps, count] of a source of which `count` slots read on from evenly spaced places."""
    starts = np.arange(count, dtype=np.int64) * num_rows // count
    return (starts + np.arange(first_step, first_step + steps, dtype=np.int64)[:, None]) % num_rows


def _check(sources: Sequence[MixtureSource], rows_per_step: int) -> None:
    if not sources:
        raise DataError("a mixture without sources; name at least one source to train on")
    if len({source.rows.name for source in sources}) < len(sources):
        raise DataError(f"mixture: two sources share a name in {[s.rows.name for s in sources]}; name them apart")
    for source in sources:
        name = source.rows.name
        if source.rows.num_rows < 1:
            raise DataError(f"mixture: source '{name}' has no rows; add data to it or leave it out")
        if not 0 < source.share < float("inf"):
            raise DataError(f"mixture: source '{name}' has share {source.share}; give a share above 0 or leave it out")
        if source.rows.context_length != sources[0].rows.context_length:
            raise DataError(
                f"mixture: '{name}' has rows of {source.rows.context_length} tokens, '{sources[0].rows.name}' of "
                f"{sources[0].rows.context_length}; pack both for one context_length"
            )
    if rows_per_step < len(sources):
        raise DataError(
            f"mixture: {rows_per_step} rows a step cannot hold {len(sources)} sources, each needs one; "
            "raise global_batch_tokens"
        )


def _interleave(rows_of_sources: Sequence[int]) -> NDArray[np.int64]:
    """Source of each slot of a step [rows_per_step], spread evenly so that every micro-batch has its part of each."""
    places = [((use + 0.5) / count, s) for s, count in enumerate(rows_of_sources) for use in range(count)]
    return np.array([source for _, source in sorted(places)], dtype=np.int64)
