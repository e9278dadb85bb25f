"""What is said when a phase begins."""

from __future__ import annotations

import pytest

from groundup.optim import LayersConfig
from groundup.pipeline.phases import _say_what_never_learns
from tests.optim.test_layers import state


def test_layers_whose_turn_never_comes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    made = state(LayersConfig(unfreeze_every_steps=4))
    _say_what_never_learns("instruct", made, 13)
    assert not caplog.text
    _say_what_never_learns("instruct", made, 8)
    assert "instruct: layers.0.attention" in caplog.text
    assert "turn comes up to step 12, the phase has 8" in caplog.text
