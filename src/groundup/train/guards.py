"""Guards around the loop: being asked to stop, and losses that are no longer numbers.

A first SIGTERM or Ctrl-C while a phase trains is remembered and answered after the current step with a saved
checkpoint; outside of training it stops at once, since what is finished is on the disk. A second Ctrl-C stops at once
everywhere. A terminal that is closed (SIGHUP) counts as SIGTERM, but under nohup. Invariant: after `Interrupted` the
same command goes on where the run stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from groundup.errors import DivergedError, Interrupted

EXIT_CODE_OF_SIGNAL = {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGUSR1: 75, signal.SIGHUP: 75}
"""SIGUSR1: what batch systems send ahead of the end of a job's time. SIGHUP: the terminal is gone."""
_FINISHED = "what is finished is on the disk"


class StopNow(KeyboardInterrupt):
    """A signal that ends the work at once, raised wherever that is; `StopRequest.installed` makes `Interrupted` of it.

    It is no `Exception`: a library that takes any of those for a fault of its input would count a file as damaged and
    go on.
    """

    def __init__(self, came: signal.Signals) -> None:
        super().__init__(came.name)
        self.exit_code = EXIT_CODE_OF_SIGNAL[came]


class StopRequest:
    """Remembers the signal that asked this process to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._deferred = False

    @contextmanager
    def installed(self) -> Iterator[StopRequest]:
        """Handle these signals inside this block; the earlier handlers come back after it.

        Raises Interrupted for one that stopped the work at once.
        """
        handled = [number for number in EXIT_CODE_OF_SIGNAL if not _left_to_nohup(number)]
        earlier = {number: signal.signal(number, self._handle) for number in handled}
        try:
            yield self
        except StopNow:
            raise self.interrupted(_FINISHED) from None
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside this block a first signal is only remembered; the loop asks `requested` between steps."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @property
    def requested(self) -> bool:
        """True once a signal has come."""
        return self.signal is not None

    def answer(self) -> None:
        """Raise Interrupted where a signal came that nothing has answered: its error was lost in a destructor."""
        if self.requested:
            raise self.interrupted(_FINISHED)

    def interrupted(self, what_is_saved: str, came: signal.Signals | None = None) -> Interrupted:
        """The error to raise once the state is saved. `came`: the signal, where another rank got it."""
        came = came or self.signal
        assert came is not None, "no signal has come"
        name = "interrupted (Ctrl-C)" if came is signal.SIGINT else f"asked to stop ({came.name})"
        return Interrupted(f"{name}: {what_is_saved}; the same command goes on from there", EXIT_CODE_OF_SIGNAL[came])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.requested
        self.signal = signal.Signals(number)
        if not self._deferred or (again and self.signal is signal.SIGINT):
            raise StopNow(self.signal)


def _left_to_nohup(number: signal.Signals) -> bool:
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


HOPELESS_TIMES = 100.0


class DivergenceGuard:
    """Counts steps in a row that lead nowhere: non-finite loss or gradients, or a loss a hundred times the first one.

    The first one is that of this attempt, or 1 where that is less.
    """

    def __init__(self, max_skipped_steps: int) -> None:
        self._limit = max_skipped_steps
        self._in_a_row = 0
        self._hopeless_from = 0.0
        self.total = 0

    def observe(self, step: int, finite: bool, loss: float = 0.0) -> None:
        """Count one step. Raises DivergedError after too many in a row."""
        if finite and not self._hopeless_from:
            self._hopeless_from = HOPELESS_TIMES * max(abs(loss), 1.0)
        hopeless = finite and loss > self._hopeless_from
        self._in_a_row = self._in_a_row + 1 if hopeless or not finite else 0
        self.total += not finite
        if self._in_a_row > self._limit:
            what = f"a loss of {loss:.3g}, as from wild guesses" if hopeless else "non-finite loss or gradients"
            raise DivergedError(
                f"step {step}: {self._in_a_row} steps in a row with {what};"
                " lower optimizer.learning_rate or raise schedule.warmup_steps"
            )
