"""Checkpoints behind the training's back: a copy in memory, then a thread writes, syncs and renames it.

    save -> wait for the one before -> copy (collectives, all ranks) -> thread: write, hash, fsync, rename, prune
    wait -> the last one is on the disk, or its fault is raised

Invariant: at most one is being written, so memory holds one copy; a fault of the thread is an event at once and an
error at the next `save` or `wait`, and never touches the checkpoint before it.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundup.errors import GroundupError, Interrupted, ResourceError, first_line, resource_errors
from groundup.log import logger
from groundup.train import checkpoint
from groundup.train.state import TrainState


def _nothing() -> None:
    """Ahead of each file, where nobody asks for more."""


class Saver:
    """Saves the checkpoints of one phase into `folder`. `asynchronous` False: `save` returns when all is on the disk.

    `on_saved(path)` and `on_failed(step, fault)` are told of each, from the thread; on rank 0 only.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        asynchronous: bool,
        on_saved: Callable[[Path], None],
        on_failed: Callable[[int, str], None],
        before_write: Callable[[], None] = _nothing,
    ) -> None:
        self.folder, self.keep, self.asynchronous = folder, keep, asynchronous
        self._on_saved, self._on_failed, self._before_write = on_saved, on_failed, before_write
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def save(self, state: TrainState, extra: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """Copy the state and begin to write it. Every rank must call it.

        Raises ResourceError when the disk has no room, or for what went wrong with the one before.
        """
        self.wait()
        snapshot = checkpoint.take(state, extra, identity, copied=self.asynchronous)
        if snapshot is None:
            return
        checkpoint.require_room(self.folder, snapshot.size_bytes)
        if not self.asynchronous:
            self._write(snapshot)
            self._raise_fault()
            return
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written. Raises ResourceError for a save that failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._raise_fault()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside, checkpoints are saved; a run that fails lets the last one finish, one told to stop at once not."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            raise
        except BaseException:
            try:
                self.wait()
            except GroundupError as error:
                logger.warning(f"the last checkpoint was not saved: {first_line(error)}")
            raise
        self.wait()

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _write(self, snapshot: checkpoint.Snapshot) -> None:
        try:
            with resource_errors(self.folder):
                path = self._written(snapshot)
            self._on_saved(path)
        except GroundupError as error:
            self._fault = error
        except Exception as error:
            what = f"{type(error).__name__}: {str(error)[:80]}"
            self._fault = ResourceError(f"a checkpoint could not be written ({what}); the one before it is whole")
            self._fault.__cause__ = error
        except BaseException as error:  # what ends a process is for its main thread to raise
            self._fault = error
        if isinstance(self._fault, GroundupError):
            logger.warning(f"checkpoint of step {snapshot.step} failed: {first_line(self._fault)}")
            self._on_failed(snapshot.step, first_line(self._fault))

    def _written(self, snapshot: checkpoint.Snapshot) -> Path:
        """Write it, once more where the disk had an error, in a new folder: what such a disk holds is not known."""
        try:
            return checkpoint.write(self.folder, snapshot, self.keep, self._before_write)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            fault = f"{error.filename or self.folder}: {error.strerror}"
            logger.warning(f"checkpoint of step {snapshot.step}: {fault}; writing it anew")
            self._on_failed(snapshot.step, f"{fault}; written anew")
            return checkpoint.write(self.folder, snapshot, self.keep, self._before_write)
