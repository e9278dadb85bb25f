"""Signals and divergence."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from groundup.errors import DivergedError, Interrupted
from groundup.train.guards import DivergenceGuard, StopRequest


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """As started by a terminal: under nohup, as tests may run, SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_closed_terminal_is_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest().installed() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.requested


@pytest.mark.parametrize(
    ("number", "code"),
    [*((number, 75) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)), (signal.SIGINT, 130)],
)
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


def test_a_library_that_takes_any_error_for_one_of_its_input_does_not_swallow_a_signal() -> None:
    went_on = False
    with pytest.raises(Interrupted) as caught, StopRequest().installed():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            went_on = True
    assert not went_on and caught.value.exit_code == 75


def test_a_signal_that_nothing_answered_ends_the_work_before_the_next_part() -> None:
    with pytest.raises(Interrupted) as caught, StopRequest().installed() as stop:
        stop.answer()
        with contextlib.suppress(BaseException):  # as a destructor does
            os.kill(os.getpid(), signal.SIGINT)
        stop.answer()
    assert caught.value.exit_code == 130


def test_a_closed_terminal_stops_the_run_but_under_nohup(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().installed() as stop, stop.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
