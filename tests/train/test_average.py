"""The mean of the weights: its formula, and the trained weights back to the bit."""

from __future__ import annotations

import torch

from groundup.train.average import AverageConfig, WeightAverage


def test_the_average_follows_its_formula_from_the_first_step_on() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage(AverageConfig(decay=0.5), {"w": weight})
    expected = torch.zeros(3)
    for step in range(1, 12):
        with torch.no_grad():
            weight += step
        average.update(step)
        decay = 0.0 if step == 1 else min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
        torch.testing.assert_close(average.values["w"], expected)


def test_trained_weights_come_back_to_the_bit() -> None:
    weight = torch.nn.Parameter(torch.rand(5))
    average = WeightAverage(AverageConfig(), {"w": weight})
    with average.in_place():
        pass
    average.update(1)
    before = weight.detach().clone()
    average.values["w"] = torch.ones(5)
    with average.in_place():
        assert (weight == 1).all()
    assert torch.equal(weight, before)
