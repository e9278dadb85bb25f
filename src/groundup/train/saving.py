"""Checkpoints behind the training's back: a copy in memory, then a thread writes, syncs and renames it.

    save -> wait for the one before -> copy -> thread: write, hash, fsync, rename, prune
    wait -> the last one is on the disk, or its fault is raised

    several ranks: each has a thread for its own parts; when a turn of the loop finds all of them done (`busy` nowhere)
    `settle` tells all ranks of all files, and the first rank seals in a thread of its own

Invariant: at most one is being written, so memory holds one copy; a fault of the thread is an event at once and an
error at the next `save` or `wait`, on all ranks, and never touches the checkpoint before it. No thread talks to ranks.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from groundup.errors import GroundupError, Interrupted, ResourceError, first_line, resource_errors
from groundup.log import logger
from groundup.train.folders import require_room
from groundup.train.partition import Planner
from groundup.train.snapshot import take
from groundup.train.state import TrainState
from groundup.train.writing import Joint, nothing, write

Written = TypeVar("Written")


class Saver:
    """Saves the checkpoints of one phase into `folder`. `asynchronous` False: `save` returns when all is on the disk.

    `on_saved(path)` and `on_failed(step, fault)` are told of each, from the thread; `on_saved` on rank 0 only.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        asynchronous: bool,
        on_saved: Callable[[Path], None],
        on_failed: Callable[[int, str], None],
        before_write: Callable[[], None] = nothing,
    ) -> None:
        self.folder, self.keep, self.asynchronous = folder, keep, asynchronous
        self._on_saved, self._on_failed, self._before_write = on_saved, on_failed, before_write
        self._planner = Planner()
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._written: Joint | None = None
        self._sealed: Joint | None = None

    def save(self, state: TrainState, extra: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """Copy the state and begin to write it. Every rank must call it.

        Raises ResourceError when the disk has no room, or for what went wrong with the one before.
        """
        self.wait()
        snapshot = take(state, extra, identity, copied=self.asynchronous, planner=self._planner)
        if snapshot.index is not None:
            assert state.mesh is not None, "parts are those of ranks"
            joint = self._written = Joint(self.folder, snapshot, state.mesh)
            self._begin(snapshot.step, lambda: self._again(snapshot.step, lambda: joint.write(self._before_write)))
        else:
            require_room(self.folder, snapshot.size_bytes)

            def written() -> Path:
                return write(self.folder, snapshot, self.keep, self._before_write)

            self._begin(snapshot.step, lambda: self._on_saved(self._again(snapshot.step, written)))
        if not self.asynchronous:
            self.wait()

    @property
    def busy(self) -> bool:
        """Whether this rank's parts are still being written."""
        return self._written is not None and self._thread is not None and self._thread.is_alive()

    def settle(self) -> None:
        """Where no rank is `busy`: let all know what all have written, and the first rank seal it.

        Every rank must call it: a collective where something was written.
        """
        joint, self._written = self._written, None
        if joint is None:
            return
        self._join()
        fault = joint.settle(self._said())
        if fault is not None and self._fault is None:
            self._fail(joint.snapshot.step, fault)
        if fault is None:
            self._sealed = joint
            if joint.leads:
                self._begin(joint.snapshot.step, lambda: self._on_saved(joint.seal(self.keep)))

    def wait(self) -> None:
        """Return when nothing is being written; every rank must call it. Raises what went wrong with a save."""
        self._join()
        self.settle()
        self._join()
        joint, self._sealed = self._sealed, None
        if joint is not None:
            fault = joint.agree(self._said())
            self._fault = self._fault or fault
        self._raise_fault()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside, checkpoints are saved; a run that fails lets the last one finish, one told to stop at once not.

        Of several ranks only one may fail, so then none waits for others: what is not sealed yet is left out.
        """
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            raise
        except BaseException:
            try:
                self._join()
                self._raise_fault()
            except GroundupError as error:
                logger.warning(f"the last checkpoint was not saved: {first_line(error)}")
            raise
        self.wait()

    def _begin(self, step: int, act: Callable[[], None]) -> None:
        """Do it, in a thread where training goes on meanwhile."""
        if not self.asynchronous:
            self._guarded(step, act)
            return
        self._thread = threading.Thread(target=self._guarded, args=(step, act), name="checkpoint", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _guarded(self, step: int, act: Callable[[], None]) -> None:
        try:
            with resource_errors(self.folder):
                act()
        except GroundupError as error:
            self._fail(step, error)
        except Exception as error:
            what = f"{type(error).__name__}: {str(error)[:80]}"
            fault = ResourceError(f"a checkpoint could not be written ({what}); the one before it is whole")
            fault.__cause__ = error
            self._fail(step, fault)
        except BaseException as error:  # what ends a process is for its main thread to raise
            self._fault = error

    def _again(self, step: int, act: Callable[[], Written]) -> Written:
        """What `act` gives; once more where the disk had an error: what such a disk holds is not known."""
        try:
            return act()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            fault = f"{error.filename or self.folder}: {error.strerror}"
            logger.warning(f"checkpoint of step {step}: {fault}; writing it anew")
            self._on_failed(step, f"{fault}; written anew")
            return act()

    def _fail(self, step: int, fault: GroundupError) -> None:
        """Say it at once, and keep it for the next save or wait."""
        self._fault = fault
        logger.warning(f"checkpoint of step {step} failed: {first_line(fault)}")
        self._on_failed(step, first_line(fault))

    def _said(self) -> str | None:
        """What other ranks hear of this one's fault."""
        if self._fault is None:
            return None
        return first_line(self._fault) if isinstance(self._fault, GroundupError) else type(self._fault).__name__
