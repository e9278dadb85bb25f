"""Rates of a base model on a larger copy: by rule, role and growth; what is not known to hold is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import RecipeError
from groundup.optim import (
    AdamConfig,
    AdamWConfig,
    GroupRule,
    MuonConfig,
    NamedConfig,
    Rates,
    SGDConfig,
    build_optimizer,
)
from groundup.optim.groups import ROLES
from groundup.optim.transfer import UNCHANGED, Growth, Updates, rate_factor
from tests.optim.toys import CONFIGS, MATRICES, kind, toy

GROWTH = {"hidden.weight": (4.0, 1.0), "out.weight": (4.0, 3.0), "head.weight": (4.0, 1.0)}
sizes = st.floats(min_value=0.25, max_value=64)


def transferable(config: Rates) -> bool:
    return config.transfer_obstacle() is None


def rates(config: Rates, growth: dict[str, Growth] | None) -> dict[str, tuple[float, float]]:
    """(rate, decay) by parameter name."""
    optimizer = build_optimizer(config, dict(toy().named_parameters()), MATRICES, growth=growth)
    return {
        name: (float(group["base_learning_rate"]), float(group["weight_decay"]))
        for group in optimizer.param_groups
        for name in group["names"]
    }


@pytest.mark.parametrize("config", [config for config in CONFIGS if transferable(config)], ids=kind)
def test_what_decays_in_a_step_stays(config: Rates) -> None:
    before, after = rates(config, None), rates(config, GROWTH)
    assert before.keys() == after.keys()
    for name, (rate, decay) in before.items():
        assert rate * decay == pytest.approx(after[name][0] * after[name][1])
    assert {name for name in before if before[name] != after[name]} <= GROWTH.keys()


def test_elementwise_rules_learn_slower_by_width_and_at_the_ends_of_branches_by_depth() -> None:
    before, after = rates(AdamWConfig(), None), rates(AdamWConfig(), GROWTH)
    shares = {name: after[name][0] / before[name][0] for name in before}
    assert shares == pytest.approx(
        {"table.weight": 1, "hidden.weight": 1 / 4, "norm.weight": 1, "out.weight": 1 / 12, "head.weight": 1 / 4}
    )


@pytest.mark.parametrize(("adjust", "by_width"), [("original", 1.0), ("match_rms_adamw", 0.5)])
def test_orthogonal_updates_follow_the_depth(adjust: str, by_width: float) -> None:
    config = MuonConfig(adjust_rate=adjust)
    before, after = rates(config, None), rates(config, GROWTH)
    shares = {name: after[name][0] / before[name][0] for name in before}
    assert shares == pytest.approx(
        {
            "table.weight": 1,
            "hidden.weight": by_width,
            "norm.weight": 1,
            "out.weight": by_width / 3,
            "head.weight": 1 / 4,
        }
    )


@pytest.mark.parametrize(("base_rows", "rows"), [(0, 0), (2, 8)])
def test_blocks_of_muon_grow_with_the_width(base_rows: int, rows: int) -> None:
    wide = {"hidden.weight": (4.0, 1.0)}
    made = [
        build_optimizer(MuonConfig(block_rows=given), dict(model.named_parameters()), MATRICES, growth=growth)
        for model, given, growth in ((toy(16), base_rows, wide), (toy(16), rows, None))
    ]
    for optimizer in made:
        members = ((name, p) for g in optimizer.param_groups for name, p in zip(g["names"], g["params"]))
        hidden = next(parameter for name, parameter in members if name == "hidden.weight")
        hidden.grad = torch.linspace(-1, 1, hidden.numel()).sin().view_as(hidden)
        optimizer.step()
    moved = [dict(zip(g["names"], g["params"])) for optimizer in made for g in optimizer.param_groups]
    first, second = (found["hidden.weight"] for found in moved if "hidden.weight" in found)
    assert torch.equal(first, second)


def test_rules_by_name_are_meant_for_the_base_model() -> None:
    rule = GroupRule(parameters="hidden.*", learning_rate_multiplier=0.5, weight_decay=0.3)
    before, after = rates(AdamWConfig(rules=(rule,)), None), rates(AdamWConfig(rules=(rule,)), GROWTH)
    assert after["hidden.weight"] == pytest.approx((before["hidden.weight"][0] / 4, 0.3 * 4))


@pytest.mark.parametrize(
    "config",
    [
        SGDConfig(),
        NamedConfig(name="torch.optim.NAdam"),
        AdamConfig(weight_decay=0.1),
        AdamConfig(rules=(GroupRule(parameters="table.*", weight_decay=0.1),)),
    ],
    ids=kind,
)
def test_what_is_not_known_to_carry_over_is_refused(config: Rates) -> None:
    rates(config, dict.fromkeys(GROWTH, UNCHANGED))
    with pytest.raises(RecipeError, match=rf"optimizer.kind: {kind(config)} with model.scaling"):
        rates(config, GROWTH)


@given(sizes, sizes, st.sampled_from(ROLES))
def test_growth_in_two_steps_is_growth_at_once(width: float, depth: float, role: str) -> None:
    updates: list[Updates] = ["elementwise", "relative", "orthogonal", "orthogonal_by_rms"]
    for rule in updates:
        twice = rate_factor(rule, role, (width, depth)) ** 2  # type: ignore[arg-type]
        assert rate_factor(rule, role, (width**2, depth**2)) == pytest.approx(twice)  # type: ignore[arg-type]
        assert rate_factor(rule, role, UNCHANGED) == 1.0  # type: ignore[arg-type]
