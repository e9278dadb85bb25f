from __future__ import annotations

import numpy as np
import pytest

from groundup.tokens import JoinedRows, Row, SelectedRows


class Toy:
    context_length = 2

    def __init__(self, name: str, first: int, num_rows: int) -> None:
        self.name, self.first, self.num_rows = name, first, num_rows

    def row(self, index: int) -> Row:
        assert 0 <= index < self.num_rows
        wide, narrow = np.full(2, self.first + index, np.int64), np.zeros(2, np.int32)
        return Row(wide, wide, narrow, narrow)


def test_joined_rows_are_those_of_the_parts_in_order() -> None:
    joined = JoinedRows("all", [Toy("a", 0, 3), Toy("b", 3, 1), Toy("c", 4, 5)])
    assert joined.num_rows == 9
    assert [int(joined.row(index).tokens[0]) for index in range(9)] == list(range(9))


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, [0, 3, 6]), (10, list(range(10))), (99, list(range(10))), (1, [0])]
)
def test_selected_rows_are_evenly_spaced(limit: int, expected: list[int]) -> None:
    selected = SelectedRows(Toy("a", 0, 10), limit)
    assert [int(selected.row(index).tokens[0]) for index in range(selected.num_rows)] == expected
