"""Killed at every system call of one save: the checkpoint before it, or the new one, is there and whole.

The quick test makes children of this process die at each call that Python makes; the slow one kills at each call that
the kernel sees, those inside safetensors included, by strace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.train import checkpoint
from tests.train import toys
from tests.train.test_checkpoint import resume, trained

CALLS = ("open", "fsync", "replace", "mkdir", "rmdir", "unlink", "chmod")
SAVE = """
import sys
from pathlib import Path
from groundup.train import checkpoint
from tests.train.test_checkpoint import trained
state = trained(1)
checkpoint.save(Path(sys.argv[1]), state, {}, keep=1)
state.step = 2
print("SECOND", flush=True)
checkpoint.save(Path(sys.argv[1]), state, {}, keep=1)
"""


def whole_step(folder: Path) -> int:
    """The step that a resume finds; it must not have to fall back to find it."""
    state, _, fallbacks = resume(folder, announced=True)
    assert fallbacks == []
    return state.step


def in_child(act: Callable[[], None]) -> int:
    """Exit status of a forked child that does `act`."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_killed_at_any_call_of_a_save_a_whole_checkpoint_is_there(tmp_path: Path) -> None:
    state = trained(1)
    checkpoint.save(tmp_path / "before", state, {}, keep=1)
    state.step = 2
    found = []
    for point in range(1, 200):
        folder = tmp_path / f"at-{point}"
        shutil.copytree(tmp_path / "before", folder)
        if in_child(lambda folder=folder, point=point: save_until(folder, state, point)) == 0:
            break
        found.append(whole_step(folder))
        # The same save again, with nothing cleaned, is whole and alone.
        checkpoint.save(folder, state, {}, keep=1)
        assert [path.name for path in folder.iterdir()] == ["step-00000002"]
    assert len(found) > 20
    assert found == sorted(found) and set(found) == {1, 2}


def save_until(folder: Path, state: Any, point: int) -> None:
    left = [point]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    checkpoint.save(folder, state, {}, keep=1)


def command(folder: Path, *tracer: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*tracer, sys.executable, "-c", SAVE, str(folder)], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "unlinkat", "mkdir"])
def test_killed_at_any_system_call_of_a_save(tmp_path: Path, call: str) -> None:
    log = tmp_path / "trace"
    command(tmp_path / "plain", "strace", "-f", "-o", str(log), "-e", f"trace={call},write", "-s", "200")
    lines = log.read_text(errors="replace").split("\n")
    second = next(i for i, line in enumerate(lines) if "SECOND" in line)
    thread = lines[second].split()[0]  # strace counts the calls of each thread by themselves
    before = sum(bool(re.match(rf"{thread} +{call}\(", line)) for line in lines[: second + 1])
    for point in range(before + 1, before + 200):
        folder = tmp_path / f"at-{point}"
        inject = f"inject={call}:signal=SIGKILL:when={point}"
        done = command(folder, "strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
        assert whole_step(folder) in (1, 2)
        state = toys.state()
        checkpoint.resume(folder, state, True, lambda path, fault: None)
        if done.returncode == 0:
            break
    assert done.returncode == 0 and point > before + 1, f"a save makes no {call}"
