"""State of every optimizer: saved and taken back to the bit, refused by name where it does not fit."""

from __future__ import annotations

import pytest
import torch

from groundup.errors import ModelFileError
from groundup.optim import (
    AdamW8bitConfig,
    AdamWConfig,
    MuonConfig,
    Rates,
    ScheduleFreeConfig,
    flat_state,
    load_flat_state,
)
from tests.optim.toys import CONFIGS, kind, make, train


@pytest.mark.parametrize("config", CONFIGS, ids=kind)
def test_training_goes_on_from_the_flat_state_to_the_bit(config: Rates) -> None:
    width = 1024 if isinstance(config, AdamW8bitConfig) else 8  # fewer than 4,096 numbers stay 32 bits wide
    model, optimizer = make(config, width)
    train(model, optimizer, range(3))
    saved = {key: value.clone() for key, value in flat_state(optimizer).items()}
    resumed, fresh = make(config, width)
    with torch.compiler.set_stance("force_eager"):
        load_flat_state(fresh, saved)
    resumed.load_state_dict(model.state_dict())
    assert all(torch.equal(flat_state(fresh)[key], value) for key, value in saved.items())
    train(model, optimizer, range(3, 6))
    train(resumed, fresh, range(3, 6))
    assert all((mine == other).all() for mine, other in zip(model.parameters(), resumed.parameters()))
    assert flat_state(fresh).keys() == flat_state(optimizer).keys()
    assert all(torch.equal(flat_state(fresh)[key], value) for key, value in flat_state(optimizer).items())
    changed = [key for key, value in saved.items() if not torch.equal(value, flat_state(optimizer)[key])]
    assert len(changed) > len(saved) / 2


def test_quantised_moments_are_saved_as_they_are() -> None:
    model, optimizer = make(AdamW8bitConfig(), 1024)
    train(model, optimizer, range(1))
    state = flat_state(optimizer)
    assert state["hidden.weight.exp_avg.codes"].dtype == torch.uint8
    assert state["norm.weight.exp_avg"].dtype == torch.float32


def test_values_of_groups_that_steps_change_are_state() -> None:
    model, optimizer = make(ScheduleFreeConfig())
    train(model, optimizer, range(2))
    assert int(flat_state(optimizer)["param_groups.0.k"]) == 2
    with pytest.raises(ModelFileError, match=r"param_groups\.9\.k is unknown"):
        load_flat_state(optimizer, {**flat_state(optimizer), "param_groups.9.k": torch.tensor(1)})


def test_a_parameter_that_never_had_a_gradient_has_no_state() -> None:
    model, optimizer = make(AdamWConfig())
    model["table"].weight.requires_grad_(False)
    train(model, optimizer, range(1))
    saved = flat_state(optimizer)
    assert not any(key.startswith("table") for key in saved)
    _, fresh = make(AdamWConfig())
    load_flat_state(fresh, saved)
    assert flat_state(fresh).keys() == saved.keys()


def test_averages_are_there_for_use_and_the_weights_come_back_to_the_bit() -> None:
    model, optimizer = make(ScheduleFreeConfig(learning_rate=0.05))
    train(model, optimizer, range(5))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with optimizer.averaged():
        assert all((p != before[name]).any() for name, p in model.named_parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    train(model, optimizer, range(5, 6))


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
