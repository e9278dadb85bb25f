from __future__ import annotations

import pytest
import torch

from groundup.optim.adamw import AdamWConfig
from groundup.optim.groups import Named, role_of


def test_roles_come_from_names_then_from_dimensions() -> None:
    matrix, vector = torch.zeros(2, 2), torch.zeros(2)
    assert role_of("a", matrix, {"a"}, "head") == "matrix"
    assert role_of("b", vector, {"a"}, "head") == "vector"
    assert role_of("head", matrix, {"a"}, "head") == "head"
    assert role_of("table", matrix, {"a"}, "head") == "embedding"


def test_only_matrices_decay_and_each_role_has_its_rate() -> None:
    rates = AdamWConfig(
        learning_rate=0.1, weight_decay=0.5, embedding_multiplier=4.0, head_multiplier=0.5, vector_multiplier=0.0
    )
    ones = {name: torch.nn.Parameter(torch.ones(2, 2)) for name in ("matrix", "embedding", "head", "vector")}
    (optimizer,) = rates.parts([Named(name, p, name) for name, p in ones.items()])  # type: ignore[arg-type]
    groups = {group["role"]: group for group in optimizer.param_groups}
    assert {role: group["weight_decay"] for role, group in groups.items()} == {
        "matrix": 0.5,
        "embedding": 0.0,
        "head": 0.0,
        "vector": 0.0,
    }
    for role, rate in {"matrix": 0.1, "embedding": 0.4, "head": 0.05, "vector": 0.0}.items():
        assert groups[role]["lr"] == groups[role]["base_learning_rate"] == pytest.approx(rate)
    for parameter in ones.values():
        parameter.grad = torch.zeros(2, 2)
    optimizer.step()
    assert ones["matrix"][0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert all((ones[role] == 1).all() for role in ("embedding", "head", "vector"))


def test_roles_that_do_not_occur_make_no_group() -> None:
    (optimizer,) = AdamWConfig().parts([Named("v", torch.nn.Parameter(torch.ones(2)), "vector")])
    assert [group["role"] for group in optimizer.param_groups] == ["vector"]
