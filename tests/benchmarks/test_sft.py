"""The comparison of instruction tuning: every tool takes the same number of steps through the same rows."""

from __future__ import annotations

import numpy as np
from benchmarks.runners.sft_groundup import batch, packed, row_numbers
from benchmarks.runners.sft_session import IGNORE
from hypothesis import given
from hypothesis import strategies as st


@given(rows=st.integers(1, 60), per_step=st.integers(1, 9), epochs=st.integers(1, 3), seed=st.integers(0, 5))
def test_each_epoch_has_every_row_once_in_as_many_steps_as_trl_makes(
    rows: int, per_step: int, epochs: int, seed: int
) -> None:
    of_epoch = -(-rows // per_step)
    order = row_numbers(rows, per_step, epochs * of_epoch, seed)
    assert len(order) == epochs * of_epoch
    for epoch in range(epochs):
        numbers = np.concatenate(order[epoch * of_epoch : (epoch + 1) * of_epoch])
        assert sorted(numbers.tolist()) == list(range(rows))
    assert all(0 < len(numbers) <= per_step for numbers in order)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=20), st.booleans())
def test_rows_hold_every_target_with_the_token_before_it(lengths: list[tuple[int, int]], whole: bool) -> None:
    examples = []
    for number, (asked, said) in enumerate(lengths):
        ids = [100 * number + place for place in range(asked + said)]
        examples.append({"input_ids": ids, "labels": [IGNORE] * asked + ids[asked:]})
    made = batch(packed(examples, 12, whole=whole))
    wanted = sorted(label for each in examples for label in each["labels"] if label != IGNORE)
    hit = made.targets != IGNORE
    assert sorted(made.targets[hit].tolist()) == wanted
    assert bool((made.tokens[hit] + 1 == made.targets[hit]).all())
    assert bool((made.positions[hit] == made.tokens[hit] % 100).all())
