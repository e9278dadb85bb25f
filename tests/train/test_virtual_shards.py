"""The rows of a virtual shard follow from the step, not from the ranks; ranks that cannot share them are refused."""

from __future__ import annotations

import pytest

from groundup.errors import FIRST_LINE_LIMIT, RecipeError
from groundup.parallel import ParallelConfig
from groundup.train.layout import rows_per_micro_batch
from groundup.train.settings import ExecutionConfig
from groundup.train.virtual_shards import check_exact, virtual_shard_rows

COPIES = ParallelConfig(shard=1)


@pytest.mark.parametrize(
    ("asked", "context_length", "rows", "expected"),
    [
        (0, 512, 16, 2),
        (0, 512, 20, 5),  # four ranks can share 4 micro-batches
        (0, 512, 1024, 16),
        (0, 8192, 32, 1),
        (0, 512, 3, 3),
        (0, 512, 1, 1),
        (4, 512, 16, 4),
        (5, 512, 16, 4),
        (100, 512, 16, 16),
    ],
)
def test_rows_of_a_virtual_shard(asked: int, context_length: int, rows: int, expected: int) -> None:
    assert virtual_shard_rows(asked, context_length, rows) == expected


@pytest.mark.parametrize("rows", [8, 16, 24, 40, 1000])
def test_they_are_the_same_for_all_ranks_that_share_a_step(rows: int) -> None:
    execution = ExecutionConfig(exact=True, parallel=COPIES)
    found = {rows_per_micro_batch(execution, 16, rows // ranks, ranks) for ranks in (1, 2, 4, 8)}
    assert len(found) == 1
    for ranks in (1, 2, 4, 8):
        check_exact(COPIES, 0, 16, rows * 16, ranks)


@pytest.mark.parametrize(
    ("parallel", "micro_batch_rows", "rows", "ranks", "message"),
    [
        (ParallelConfig(), 0, 16, 2, r"parallel.shard is 0; set runtime.parallel.shard=1"),
        (ParallelConfig(shard=2), 0, 16, 4, r"parallel.shard is 2"),
        (ParallelConfig(shard=1, tensor=2), 0, 16, 4, r"tensor, context, pipeline"),
        (COPIES, 0, 12, 3, r"3 ranks cannot share"),
        (COPIES, 8, 16, 4, r"4 ranks cannot share 2 micro-batches of 8 rows"),
        (COPIES, 0, 64, 16, r"16 ranks cannot share 8 micro-batches of 8 rows"),
    ],
)
def test_other_ranks_are_refused_by_name(
    parallel: ParallelConfig, micro_batch_rows: int, rows: int, ranks: int, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        check_exact(parallel, micro_batch_rows, 512, rows * 512, ranks)
    assert len(caught.value.message) <= FIRST_LINE_LIMIT


def test_one_rank_is_never_refused() -> None:
    check_exact(ParallelConfig(), 3, 512, 7 * 512, 1)
