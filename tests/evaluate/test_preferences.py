"""Figures of held-out preferences against a count by hand, and log-probabilities that leave the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from groundup.evaluate import measure_preferences, scored_answers
from groundup.models import DPOConfig, outcome
from groundup.tokens import collate
from tests.train import toys
from tests.train.preference_toys import RULES, ToyPreferences, training


@pytest.mark.parametrize("name", RULES)
def test_figures_are_means_over_what_is_compared(name: str) -> None:
    rule, rows = RULES[name], ToyPreferences("pairs", kto=name == "kto")
    model = toys.state(training(rule)).model
    found = measure_preferences(model, rule, rows)
    batch = collate([rows.row(index) for index in range(rows.num_rows)], [0] * rows.num_rows)
    assert batch.groups is not None and batch.references is not None
    with torch.no_grad():
        log_probabilities, lengths = model(**batch.inputs())
    judged = outcome(rule, log_probabilities, lengths, batch.targets, batch.groups, batch.references)
    losses, margins = (plane[judged.exists].double().numpy() for plane in (judged.losses, judged.margins))
    assert found["preference_loss"].value == pytest.approx(losses.mean())
    assert found["reward_margin"].value == pytest.approx(margins.mean())
    assert found["reward_accuracy"].value == pytest.approx((margins > 0).mean())
    assert found["reward_margin"].stderr == pytest.approx(margins.std(ddof=1) / np.sqrt(len(margins)))
    compared = len(rows.items) * (2 if name == "kto" else 1)
    assert {metric.n for metric in found.values()} == {compared}


def test_a_limit_of_rows_is_kept_and_the_mode_of_the_model_too() -> None:
    rows = ToyPreferences("pairs")
    model = toys.state(training(DPOConfig())).model.train()
    whole, part = (measure_preferences(model, DPOConfig(), rows, limit)["reward_margin"].n for limit in (0, 1))
    assert 0 < part < whole and model.training


def test_log_probabilities_are_the_same_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ToyPreferences("pairs")
    model = toys.state(training(DPOConfig())).model
    (together,) = [scores for _, scores, _ in scored_answers(model, rows)]
    monkeypatch.setattr("groundup.evaluate.preferences.BATCH_TOKENS", 1)
    apart = torch.cat([scores for _, scores, _ in scored_answers(model, rows)])
    torch.testing.assert_close(apart, together)
