"""A file -> a lock that one process of all machines holds at a time, and that says who holds it.

    x.lock     held (flock) by whoever works; its content is the holder: process, host, since when

Invariant: the kernel frees a lock when its process dies; no child of the process goes on holding it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from groundup.errors import LockedError, ResourceError

_NAME_SECONDS = 1.0
"""What is waited for the holder of a lock to say who it is."""
_held_locks: set[int] = set()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `path` exclusively; raises LockedError naming process, host and start time of the holder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held_locks.add(descriptor)
    held = False
    try:
        _acquire(descriptor, path)
        held = True
        yield
    finally:
        if descriptor in _held_locks:  # not so in a forked child, which closed it already
            _held_locks.discard(descriptor)
            if held:  # so that whoever meets the next holder before it has written its name does not read this one's
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        name, holder = f"{path.parent.name}/{path.name}", _holder(descriptor)
        raise LockedError(
            f"{name}: held by {holder}; wait for it or stop it, then run the same command again"
        ) from None
    except OSError as error:
        raise ResourceError(
            f"{path.parent}: the file system cannot lock files ({error.strerror}); set runtime.workdir to a local disk"
        ) from None
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started})
    with suppress(OSError):  # on a full disk too the lock holds; it only does not say whose it is
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)


def _close_inherited_locks() -> None:
    """In a forked child: without this an orphaned worker of a killed run would go on holding the run's lock."""
    for descriptor in _held_locks:
        os.close(descriptor)
    _held_locks.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


def _holder(descriptor: int) -> str:
    """Who holds a lock. Its name comes a moment after the lock itself, in place of that of a holder that was killed."""
    until = time.monotonic() + _NAME_SECONDS
    while True:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
            name = f"process {holder['pid']} on {holder['host']} since {holder['started']}"
            if holder["host"] != socket.gethostname() or Path(f"/proc/{int(holder['pid'])}").exists():
                return name
        except (ValueError, KeyError, TypeError):
            name = "another process"
        if time.monotonic() > until:
            return name
        time.sleep(0.01)
