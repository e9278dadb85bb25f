"""Boxes: a division of a tensor is told from one with a gap or an overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from groundup.sharded import Box
from groundup.sharded.boxes import tiling_fault

SHAPES = st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple)


def divided(box: Box, data: st.DataObject) -> list[Box]:
    """The box in random boxes, cut again and again."""
    sides = [dim for dim, size in enumerate(box.shape) if size > 1]
    if not sides or data.draw(st.booleans()):
        return [box]
    dim = data.draw(st.sampled_from(sides))
    cut = data.draw(st.integers(1, box.shape[dim] - 1))
    rest = ((*box.offset[:dim], box.offset[dim] + cut, *box.offset[dim + 1 :]), box.shape[dim] - cut)
    first = Box(box.offset, (*box.shape[:dim], cut, *box.shape[dim + 1 :]))
    second = Box(rest[0], (*box.shape[:dim], rest[1], *box.shape[dim + 1 :]))
    return divided(first, data) + divided(second, data)


@given(shape=SHAPES, data=st.data())
def test_any_division_is_one_and_no_change_of_it_is(shape: tuple[int, ...], data: st.DataObject) -> None:
    boxes = divided(Box.whole(shape), data)
    assert tiling_fault(boxes, shape) is None
    place = data.draw(st.integers(0, len(boxes) - 1))
    others = boxes[:place] + boxes[place + 1 :]
    assert "numbers" in str(tiling_fault(others, shape)), "one is missing"
    for dim in range(len(shape)):
        moved = (*boxes[place].offset[:dim], boxes[place].offset[dim] + 1, *boxes[place].offset[dim + 1 :])
        assert tiling_fault([*others, Box(moved, boxes[place].shape)], shape) is not None


def test_equal_counts_do_not_hide_an_overlap() -> None:
    twice = [Box((0, 0), (2, 2)), Box((0, 0), (2, 2))]
    assert tiling_fault(twice, (4, 2)) == "its parts overlap"
    assert tiling_fault([Box((0,), (2,))], (2, 2)) == "a part has 1 dimensions, the tensor 2"
    assert tiling_fault([], (0, 5)) is None and tiling_fault([Box((), ())], ()) is None


@given(shape=SHAPES, count=st.integers(1, 9))
def test_rows_are_divided_evenly(shape: tuple[int, ...], count: int) -> None:
    boxes = Box.whole(shape).divided(count)
    assert tiling_fault(boxes, shape) is None and len(boxes) <= count
    rows = [box.shape[0] for box in boxes if box.shape] or [1]
    assert max(rows) - min(rows) <= 1
