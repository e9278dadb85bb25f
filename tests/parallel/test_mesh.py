from __future__ import annotations

import pytest

from groundup.parallel import ParallelConfig, Rank, join


def test_the_launcher_must_start_what_the_config_wants() -> None:
    place = Rank(rank=0, world_size=4, local_rank=0, address="127.0.0.1", port=1)
    with pytest.raises(ValueError, match=r"data_parallel is 2, but 4 processes .* --nproc-per-node=2"):
        join(ParallelConfig(data_parallel=2), place, "cpu")
