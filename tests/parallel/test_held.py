"""Which box a rank holds is read off the placements: the one that torch gives it when it divides the whole tensor."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.parallel.held import box_held
from groundup.sharded import Box
from groundup.sharded.boxes import tiling_fault

PLACED = {
    "whole": (Replicate(), Replicate()),
    "rows": (Shard(0), Replicate()),
    "columns": (Replicate(), Shard(1)),
    "rows and columns": (Shard(0), Shard(1)),
    "rows twice": (Shard(0), Shard(0)),
    "rows of what is tensor parallel by rows": (_StridedShard(0, split_factor=2), Shard(0)),
}
SHAPES = [(8, 6), (7, 5), (3, 2), (1, 1)]


@pytest.mark.parametrize("placed", PLACED)
def test_the_box_is_what_torch_gives_a_rank(placed: str) -> None:
    found: dict[tuple[int, ...], list[Box]] = {shape: [] for shape in SHAPES}
    for rank in range(4):
        dist.init_process_group("fake", rank=rank, world_size=4, store=FakeStore())
        try:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
            for shape in SHAPES:
                whole = torch.arange(shape[0] * shape[1]).view(shape)
                part = distribute_tensor(whole, mesh, PLACED[placed], src_data_rank=None)
                box = box_held(part)
                assert torch.equal(whole[box.inside(Box.whole(shape))], part.to_local())
                found[shape].append(box)
        finally:
            dist.destroy_process_group()
    for shape, boxes in found.items():
        assert tiling_fault([box for box in dict.fromkeys(boxes) if box.count], shape) is None


def test_what_is_no_part_is_refused() -> None:
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        with pytest.raises(ValueError, match="which is no part"):
            box_held(DTensor.from_local(torch.ones(2), mesh, (Partial(), Replicate()), run_check=False))
        uneven = DTensor.from_local(
            torch.ones(3), mesh, (Shard(0), Replicate()), run_check=False, shape=torch.Size((5,)), stride=(1,)
        )
        assert box_held(uneven) == Box((0,), (3,))
        wrong = DTensor.from_local(
            torch.ones(4), mesh, (Shard(0), Replicate()), run_check=False, shape=torch.Size((5,)), stride=(1,)
        )
        with pytest.raises(ValueError, match=r"a part of shape \[4\]"):
            box_held(wrong)
    finally:
        dist.destroy_process_group()
    assert box_held(torch.ones(2, 3)) == Box.whole((2, 3))
