"""The coordinate check: with `model.scaling` a step changes activations as much in a large model as in its base."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.coordinates import BASE_LAYERS, BASE_WIDTH, RULES, changes, final_loss, model

WIDE, DEEP = 512, 16
SEEDS = (1,)


def growth(rule: str, width: int, layers: int, scaled: bool) -> dict[str, float]:
    """Changes of a larger model over those of the base."""
    base = changes(model(BASE_WIDTH, BASE_LAYERS, scaled), RULES[rule], seeds=SEEDS)
    large = changes(model(width, layers, scaled), RULES[rule], seeds=SEEDS)
    return {name: large[name] / base[name] for name in base}


@pytest.mark.parametrize("rule", RULES)
def test_changes_stay_over_width(rule: str) -> None:
    found = growth(rule, WIDE, BASE_LAYERS, scaled=True)
    assert all(0.4 < ratio < 2 for ratio in found.values()), found


@pytest.mark.parametrize("rule", RULES)
def test_changes_stay_over_depth(rule: str) -> None:
    """What comes out stays; of what the branches add, the part in which blocks do not agree evens out over many."""
    found = growth(rule, BASE_WIDTH, DEEP, scaled=True)
    assert 0.67 < found["logits"] < 1.5, found
    assert 0.35 < found["residual stream"] < 1.5, found


@pytest.mark.parametrize(("rule", "least"), [("adamw", 3.0), ("lion", 3.0), ("muon", 3.0), ("adafactor", 1.7)])
def test_without_it_they_grow_with_the_width(rule: str, least: float) -> None:
    assert growth(rule, WIDE, BASE_LAYERS, scaled=False)["logits"] > least


def test_without_it_they_grow_with_the_depth() -> None:
    assert growth("adamw", BASE_WIDTH, DEEP, scaled=False)["residual stream"] > 2


def test_a_short_run_gives_a_loss() -> None:
    text = torch.arange(2000) % 7
    assert final_loss(64, 2**-7, True, text, steps=6) < math.log(256)
