"""Sums of which ranks have parts are added up quietly, dimension by dimension."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard, _redistribute
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.optim.gathering import added_up


def test_a_sum_over_two_dimensions_of_ranks_is_added_up_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_redistribute.logger, "warning", lambda text, *values: said.append(text))
    monkeypatch.setattr(_redistribute, "_warned_flatten_issues", set())
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        parts = DTensor.from_local(torch.ones(4), mesh, [Partial(), Partial()], run_check=False)
        mixed = DTensor.from_local(torch.ones(4), mesh, [Shard(0), Partial()], run_check=False)
        assert all(placement.is_replicate() for placement in added_up(parts).placements)
        assert added_up(mixed).placements[0].is_shard() and added_up(mixed).placements[1].is_replicate()
        assert not said
        parts.full_tensor()
        assert said, "torch still warns where it is to do both at once"
    finally:
        dist.destroy_process_group()
    plain = torch.ones(2)
    assert added_up(plain) is plain
