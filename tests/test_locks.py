"""Locks: one holder at a time, who says who it is; free again however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import LockedError, ResourceError
from groundup.locks import lock


def test_an_orphaned_worker_does_not_go_on_holding_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    script = f"""
import os, sys, time
from pathlib import Path
from groundup.locks import lock
with lock(Path({str(path)!r})):
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())
    try:
        with pytest.raises(LockedError, match=f"process {process.pid}"), lock(path):
            pass
        process.kill()
        process.wait()
        with lock(path):
            pass
    finally:
        os.kill(orphan, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_a_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), lock(tmp_path / "x.lock"):
        raise ValueError("inside")
    with lock(tmp_path / "x.lock"), pytest.raises(LockedError, match=f"process {os.getpid()}"):
        lock(tmp_path / "x.lock").__enter__()


def test_the_lock_holds_on_a_disk_that_has_no_room_for_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    path = tmp_path / "a.lock"
    with lock(path), pytest.raises(LockedError, match="held by another process"), lock(path):
        raise AssertionError("locked twice")


def test_the_holder_is_waited_for_to_say_who_it_is(tmp_path: Path) -> None:
    """Between taking the lock and writing its name it is nobody, or the one that was killed before it."""
    path, gone = tmp_path / "a.lock", {"pid": 2**22 + 1, "host": socket.gethostname(), "started": "then"}
    for left in (b"", json.dumps(gone).encode()):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.pwrite(descriptor, left, 0)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        own = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": "now"}).ljust(len(left))
        naming = threading.Timer(0.2, os.pwrite, (descriptor, own.encode(), 0))
        naming.start()
        with pytest.raises(LockedError, match=f"held by process {os.getpid()} on .* since now"), lock(path):
            raise AssertionError("locked twice")
        naming.join()
        os.close(descriptor)
    with lock(path):
        pass
    assert path.read_bytes() == b"", "nobody holds it"


def test_a_file_system_that_cannot_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", lambda descriptor, how: None if how == fcntl.LOCK_UN else refused())
    with pytest.raises(ResourceError, match=r"cannot lock files \(No locks available\); set runtime.workdir"):
        lock(tmp_path / "a.lock").__enter__()
