"""Signals and divergence."""

from __future__ import annotations

import os
import signal

import pytest

from groundup.errors import DivergedError, Interrupted
from groundup.train.guards import DivergenceGuard, StopRequest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_is_remembered_while_deferred(number: signal.Signals, code: int) -> None:
    with StopRequest().installed() as stop, stop.deferred():
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.interrupted("saved").exit_code == code


def test_a_signal_stops_at_once_outside_of_training() -> None:
    with pytest.raises(Interrupted), StopRequest().installed():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_ctrl_c_stops_at_once() -> None:
    with pytest.raises(Interrupted), StopRequest().installed() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_earlier_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest().installed():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_too_many_skipped_steps_in_a_row_stop_the_run() -> None:
    guard = DivergenceGuard(max_skipped_steps=2)
    for step, finite in enumerate([False, False, True, False, False]):
        guard.observe(step, finite)
    assert guard.total == 4
    with pytest.raises(DivergedError, match="3 steps in a row"):
        guard.observe(5, False)
