from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from groundup.errors import RecipeError
from groundup.optim import (
    AdamWConfig,
    GroupRule,
    LionConfig,
    MuonConfig,
    NamedConfig,
    OptimizerConfig,
    Rates,
    build_optimizer,
    flat_state,
)
from tests.optim.toys import CONFIGS, kind, make, toy, train


@pytest.mark.parametrize("config", CONFIGS, ids=kind)
def test_every_parameter_is_in_one_group_with_a_base_rate(config: Rates) -> None:
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
    assert all(group["base_learning_rate"] == pytest.approx(float(group["lr"])) for group in optimizer.param_groups)
    assert {group["role"] for group in optimizer.param_groups if group["weight_decay"] > 0} == {"matrix"}


@pytest.mark.parametrize("config", CONFIGS, ids=kind)
def test_torchs_state_dict_goes_round(config: Rates) -> None:
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
    for wrong in (
        {"kind": "sgdm"},
        {"kind": "sgd", "momentum": 0.0, "nesterov": True},
        {"kind": "adamw", "momentum": 0.9},
        {"kind": "muon", "learning_rate": 0.0},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_rules_give_other_rates_and_decays_by_name_and_the_first_counts() -> None:
    rules = (
        GroupRule(parameters="hidden.*", learning_rate_multiplier=0.5),
        GroupRule(parameters="*.weight", weight_decay=0.3),
    )
    config = MuonConfig(learning_rate=0.1, adam_learning_rate=0.01, weight_decay=0.2, rules=rules)
    _, optimizer = make(config)
    found = {name: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for name in g["names"]}
    assert found == {
        "hidden.weight": (0.05, 0.2),
        "out.weight": (0.1, 0.3),
        "table.weight": (0.01, 0.3),
        "norm.weight": (0.01, 0.3),
        "head.weight": (0.01, 0.3),
    }


def test_a_rate_of_zero_leaves_parameters_alone() -> None:
    config = AdamWConfig(rules=(GroupRule(parameters="table.*", learning_rate_multiplier=0.0),))
    model, optimizer = make(config)
    before = model["table"].weight.clone()
    train(model, optimizer, range(2))
    assert (model["table"].weight == before).all() and (model["head"].weight != toy()["head"].weight).any()


def test_a_rule_that_fits_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'layer\.\*' fits no parameter"):
        make(LionConfig(rules=(GroupRule(parameters="layer.*"),)))


def test_frozen_parameters_are_in_no_group() -> None:
    model = toy()
    model["table"].weight.requires_grad_(False)
    optimizer = build_optimizer(AdamWConfig(), dict(model.named_parameters()), {"hidden.weight"})
    assert "table.weight" not in {name for group in optimizer.param_groups for name in group["names"]}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NAdam", {}, "no dotted name"),
        ("no_such_package.Adam", {}, "cannot be loaded"),
        ("torch.optim.Nothing", {}, "is not in torch.optim"),
        ("torch.nn.Linear", {}, "no class of torch optimizers"),
        ("torch.optim.NAdam", {"momentum": 0.5}, "refuses its arguments"),
        ("torch.optim.NAdam", {"eps": -1.0}, "refuses its arguments"),
        ("torch.optim.SparseAdam", {}, "makes no plain step"),
        ("torch.optim.LBFGS", {}, "refuses its arguments|makes no plain step"),
        ("torch.optim.Muon", {}, "refuses its arguments"),
    ],
)
def test_names_that_are_no_optimizer_are_refused(name: str, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(NamedConfig(name=name, arguments=arguments))


def test_what_a_named_optimizer_would_pass_over_is_refused() -> None:
    for name in ("lr", "weight_decay"):
        with pytest.raises(ValidationError, match=f"{name} is a field of its own"):
            NamedConfig(name="torch.optim.NAdam", arguments={name: 0.1})
    assert make(NamedConfig(name="torch.optim.Rprop"))
    with pytest.raises(RecipeError, match="has no weight_decay"):
        make(NamedConfig(name="torch.optim.Rprop", weight_decay=0.1))
