from __future__ import annotations

import numpy as np
import torch

from groundup.tokens import IGNORE, Row, collate, ordered_batches


class Toy:
    name, num_rows, context_length = "toy", 7, 3

    def row(self, index: int) -> Row:
        tokens = np.full(3, index, np.int64)
        return Row(tokens, np.array([1, 2, IGNORE]), np.zeros(3, np.int32), np.arange(3, dtype=np.int32))


def test_a_batch_has_the_types_that_models_take() -> None:
    batch = collate([Toy().row(0), Toy().row(5)], [1, 0])
    assert batch.tokens.tolist() == [[0, 0, 0], [5, 5, 5]]
    assert batch.targets.tolist() == [[1, 2, IGNORE]] * 2
    assert batch.positions.tolist() == [[0, 1, 2]] * 2
    assert batch.sources.tolist() == [1, 0]
    assert [batch.tokens.dtype, batch.targets.dtype, batch.sources.dtype] == [torch.int64] * 3
    assert [batch.segments.dtype, batch.positions.dtype] == [torch.int32] * 2


def test_a_batch_is_a_copy_of_its_rows() -> None:
    row = Toy().row(1)
    batch = collate([row], [0])
    row.tokens[:] = 9
    assert batch.tokens.tolist() == [[1, 1, 1]]


def test_a_batch_moves_whole() -> None:
    moved = collate([Toy().row(1)], [0]).to("meta")
    assert all(
        getattr(moved, name).device.type == "meta" for name in ("tokens", "targets", "segments", "positions", "sources")
    )


def test_validation_reads_the_rows_in_order() -> None:
    assert [batch.tokens[:, 0].tolist() for batch in ordered_batches(Toy(), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.tokens[:, 0].tolist() for batch in ordered_batches(Toy(), 3, max_rows=4)] == [[0, 1, 2], [3]]
