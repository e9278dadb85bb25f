"""Losses of single predictions against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from groundup.models.losses import IGNORE, LossConfig, cross_entropy


@given(
    seed=st.integers(0, 1000),
    smoothing=st.floats(0, 0.9),
    z_loss=st.floats(0, 0.1),
    weighted=st.booleans(),
    classes=st.integers(2, 9),
)
def test_cross_entropy_is_torchs_and_z_loss_comes_on_top(
    seed: int, smoothing: float, z_loss: float, weighted: bool, classes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(7, classes, generator=generator) * 3
    targets = torch.randint(0, classes, (7,), generator=generator)
    targets[2] = IGNORE
    weights = torch.rand(classes, generator=generator) if weighted else None
    found = cross_entropy(scores, targets, LossConfig(label_smoothing=smoothing, z_loss=z_loss), weights)
    wanted = functional.cross_entropy(scores, targets, weight=weights, reduction="none", label_smoothing=smoothing)
    wanted = wanted + z_loss * scores.logsumexp(-1).square() * (targets != IGNORE)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert found[2] == 0


def test_scores_that_are_no_numbers_at_ignored_places_do_not_matter() -> None:
    scores = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    assert cross_entropy(scores, torch.tensor([0, IGNORE]))[1] == 0


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"z_loss": -1.0}])
def test_losses_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossConfig(**wrong)  # type: ignore[arg-type]
