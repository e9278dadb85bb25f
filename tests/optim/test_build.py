from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from groundup.errors import ModelFileError
from groundup.optim import (
    AdamWConfig,
    MuonConfig,
    Optimizer,
    OptimizerConfig,
    build_optimizer,
    flat_state,
    load_flat_state,
)

CONFIGS = [AdamWConfig(learning_rate=0.01), MuonConfig(learning_rate=0.02)]
MATRICES = {"hidden.weight", "out.weight"}


def toy() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "table": nn.Embedding(10, 6),
            "hidden": nn.Linear(6, 8, bias=False),
            "norm": nn.LayerNorm(8, bias=False),
            "out": nn.Linear(8, 6, bias=False),
            "head": nn.Linear(6, 10, bias=False),
        }
    )


def make(config: AdamWConfig | MuonConfig) -> tuple[nn.ModuleDict, Optimizer]:
    model = toy()
    return model, build_optimizer(config, dict(model.named_parameters()), MATRICES)


def train(model: nn.ModuleDict, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        tokens = torch.randint(0, 10, (4,), generator=torch.Generator().manual_seed(step))
        hidden = model["out"](model["norm"](model["hidden"](model["table"](tokens))))
        nn.functional.cross_entropy(model["head"](hidden), tokens).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("config", CONFIGS)
def test_every_parameter_is_in_one_group_with_a_base_rate(config: AdamWConfig | MuonConfig) -> None:
    model, optimizer = make(config)
    named = {name: group["role"] for group in optimizer.param_groups for name in group["names"]}
    assert named == {
        "table.weight": "embedding",
        "hidden.weight": "matrix",
        "norm.weight": "vector",
        "out.weight": "matrix",
        "head.weight": "head",
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    assert all(group["base_learning_rate"] == group["lr"] for group in optimizer.param_groups)
    assert {group["role"] for group in optimizer.param_groups if group["weight_decay"] > 0} == {"matrix"}


@pytest.mark.parametrize("config", CONFIGS)
def test_training_goes_on_from_the_flat_state_to_the_bit(config: AdamWConfig | MuonConfig) -> None:
    model, optimizer = make(config)
    train(model, optimizer, range(3))
    saved = {key: value.clone() for key, value in flat_state(optimizer).items()}
    resumed, fresh = make(config)
    resumed.load_state_dict(model.state_dict())
    load_flat_state(fresh, saved)
    train(model, optimizer, range(3, 6))
    train(resumed, fresh, range(3, 6))
    assert all((mine == other).all() for mine, other in zip(model.parameters(), resumed.parameters()))
    assert all((flat_state(fresh)[key] == value).all() for key, value in flat_state(optimizer).items())
    assert all(not (value.ndim and (value == flat_state(optimizer)[key]).all()) for key, value in saved.items())


def test_flat_names_are_parameter_and_field() -> None:
    model, optimizer = make(MuonConfig())
    assert flat_state(optimizer) == {}
    train(model, optimizer, range(1))
    assert sorted(flat_state(optimizer)) == sorted(
        ["hidden.weight.momentum_buffer", "out.weight.momentum_buffer"]
        + [f"{name}.weight.{f}" for name in ("table", "norm", "head") for f in ("step", "exp_avg", "exp_avg_sq")]
    )


def test_an_empty_state_is_the_one_before_the_first_step() -> None:
    model, optimizer = make(MuonConfig())
    train(model, optimizer, range(1))
    load_flat_state(optimizer, {})
    assert flat_state(optimizer) == {}


def test_a_state_that_does_not_fit_is_named() -> None:
    model, optimizer = make(MuonConfig())
    train(model, optimizer, range(1))
    state = flat_state(optimizer)
    _, other = make(AdamWConfig())
    with pytest.raises(ModelFileError, match=r"hidden\.weight"):
        load_flat_state(other, state)
    with pytest.raises(ModelFileError, match=r"missing: head\.weight\.exp_avg;"):
        load_flat_state(optimizer, {key: value for key, value in state.items() if key != "head.weight.exp_avg"})
    with pytest.raises(ModelFileError, match=r"shape \[1\], the parameter has \[10, 6\]"):
        load_flat_state(optimizer, {**state, "head.weight.exp_avg": torch.zeros(1)})


@pytest.mark.parametrize("config", CONFIGS)
def test_torchs_state_dict_goes_round(config: AdamWConfig | MuonConfig) -> None:
    model, optimizer = make(config)
    train(model, optimizer, range(2))
    _, fresh = make(config)
    train(model, fresh, range(1))
    fresh.load_state_dict(optimizer.state_dict())
    assert all((flat_state(fresh)[key] == value).all() for key, value in flat_state(optimizer).items())


def test_a_matrix_name_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        build_optimizer(AdamWConfig(), dict(toy().named_parameters()), {"nowhere"})


def test_kinds_are_told_apart() -> None:
    adapter: TypeAdapter[object] = TypeAdapter(OptimizerConfig)
    assert isinstance(adapter.validate_python({"kind": "muon", "learning_rate": 0.01}), MuonConfig)
    assert isinstance(adapter.validate_python({"kind": "adamw", "beta2": 0.99}), AdamWConfig)
    for wrong in ({"kind": "sgd"}, {"kind": "adamw", "momentum": 0.9}, {"kind": "muon", "learning_rate": 0.0}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
