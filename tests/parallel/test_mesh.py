from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.errors import RecipeError
from groundup.parallel import ParallelConfig, Rank, data_mesh, join


@pytest.mark.parametrize(
    ("shard", "shape", "names"),
    [
        (0, (4,), ("data",)),
        (4, (4,), ("data",)),
        (2, (2, 2), ("replicate", "shard")),
        (1, (4, 1), ("replicate", "shard")),
    ],
)
def test_copies_of_the_model_are_a_dimension(shard: int, shape: tuple[int, ...], names: tuple[str, ...]) -> None:
    dist.init_process_group("fake", rank=1, world_size=4, store=FakeStore())
    try:
        mesh = data_mesh("cpu", shard)
        assert mesh.mesh.shape == shape and mesh.mesh_dim_names == names
        assert mesh.size() == 4 and mesh.get_rank() == 1
    finally:
        dist.destroy_process_group()


def test_groups_of_ranks_must_be_equal() -> None:
    place = Rank(rank=0, world_size=4, local_rank=0, address="127.0.0.1", port=1)
    with pytest.raises(RecipeError, match=r"shard: 3 does not divide 4 ranks"):
        join(ParallelConfig(shard=3), place, "cpu")
