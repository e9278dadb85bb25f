from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.errors import RecipeError
from groundup.parallel import ParallelConfig, Rank, data_mesh, join
from groundup.parallel.mesh import data_rank, data_size, degree, sharding_mesh


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
        mesh = data_mesh("cpu", ParallelConfig(shard=shard))
        assert mesh.mesh.shape == shape and mesh.mesh_dim_names == names
        assert mesh.size() == 4 and mesh.get_rank() == 1
    finally:
        dist.destroy_process_group()


def test_groups_of_ranks_must_be_equal() -> None:
    place = Rank(rank=0, world_size=4, local_rank=0, address="127.0.0.1", port=1)
    with pytest.raises(RecipeError, match=r"shard: 3 does not divide 4 ranks"):
        join(ParallelConfig(shard=3), place, "cpu")


@pytest.mark.parametrize(
    ("config", "names", "with_rows", "group", "sharded"),
    [
        ({"tensor": 2}, ("data", "tensor"), 4, 2, (4,)),
        ({"context": 2}, ("data", "context"), 4, 2, (8,)),
        ({"pipeline": 2}, ("pipeline", "data"), 4, 1, (4,)),
        ({"tensor": 2, "shard": 2}, ("replicate", "shard", "tensor"), 4, 2, (2, 2)),
        ({"context": 2, "shard": 2}, ("replicate", "shard", "context"), 4, 2, (2, 4)),
        ({"tensor": 2, "context": 2, "pipeline": 2}, ("pipeline", "data", "context", "tensor"), 1, 0, (2,)),
    ],
)
def test_ranks_that_share_rows_are_no_data_ranks(
    config: dict[str, int], names: tuple[str, ...], with_rows: int, group: int, sharded: tuple[int, ...]
) -> None:
    dist.init_process_group("fake", rank=5, world_size=8, store=FakeStore())
    try:
        mesh = data_mesh("cpu", ParallelConfig(**config))
        assert mesh.mesh_dim_names == names
        assert (data_size(mesh), data_rank(mesh)) == (with_rows, group)
        assert sharding_mesh(mesh).mesh.shape == sharded
        assert all(degree(mesh, name) == config.get(name, 1) for name in ("tensor", "context", "pipeline"))
    finally:
        dist.destroy_process_group()


def test_ranks_of_a_row_must_divide_all() -> None:
    place = Rank(rank=0, world_size=4, local_rank=0, address="127.0.0.1", port=1)
    with pytest.raises(RecipeError, match=r"tensor 3 does not divide 4 ranks"):
        join(ParallelConfig(tensor=3), place, "cpu")
