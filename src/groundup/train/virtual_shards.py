"""`runtime.exact` on several ranks: which micro-batches a step has, whatever the ranks, and which ranks can share them.

    rows of a step -> virtual shards of equal rows, one micro-batch each -> ranks: a power of two that divides them

Invariant: the rows of a virtual shard follow from the recipe and `runtime.micro_batch_rows`, never from the ranks.
"""

from __future__ import annotations

import math

from groundup.errors import RecipeError
from groundup.parallel import ParallelConfig

USUAL_RANKS = 8
"""Where nothing is said of micro-batches, so many ranks can share them, as far as the rows of a step allow."""
USUAL_TOKENS = 8192


def virtual_shard_rows(asked: int, context_length: int, rows: int) -> int:
    """Rows of a virtual shard where a step has `rows`: the most up to `asked` that divide them.

    `asked` 0: as many as make about 8,192 tokens, and leave enough shards for eight ranks.
    """
    if asked:
        return next(size for size in range(min(asked, rows), 0, -1) if rows % size == 0)
    shared = math.gcd(rows, USUAL_RANKS)
    limit = min(max(1, USUAL_TOKENS // context_length), rows)
    return next(size for size in range(limit, 0, -1) if rows % size == 0 and rows // size % shared == 0)


def check_exact(
    parallel: ParallelConfig, micro_batch_rows: int, context_length: int, global_batch_tokens: int, ranks: int
) -> None:
    """Raise RecipeError where so many ranks cannot give the bits of one."""
    if ranks == 1:
        return
    if parallel.ranks_of_a_row > 1:
        raise RecipeError(
            "runtime.exact: ranks that share a row (tensor, context, pipeline) round otherwise than one does;"
            " use them without exact, or runtime.parallel.shard=1 alone"
        )
    if parallel.shard != 1:
        raise RecipeError(
            f"runtime.exact: each of {ranks} ranks needs a copy of its own, and parallel.shard is {parallel.shard};"
            " set runtime.parallel.shard=1, or leave exact out"
        )
    rows = global_batch_tokens // context_length
    size = virtual_shard_rows(micro_batch_rows, context_length, rows)
    if ranks & (ranks - 1) or (rows // size) % ranks:
        raise RecipeError(
            f"runtime.exact: {ranks} ranks cannot share {rows // size} micro-batches of {size} rows in pairs; use 1, 2,"
            " 4, ... ranks that divide their number, or another runtime.micro_batch_rows"
        )
