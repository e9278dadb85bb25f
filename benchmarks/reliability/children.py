"""The command in children that are forked from this process: torch is imported once, a start costs a tenth of a second.

    start(act) -> fork -> session of its own, output to files, environment, limits -> [gate] -> act() -> exit code
    start(act, tracer=...) -> strace is attached while the child waits at the gate

Invariant: this process computes with one thread and never trains by itself, so that a fork finds no locked thread pool.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from groundup import cli, launcher

for _late in ("encodings.unicode_escape", "encodings.utf_8_sig", "numpy.ctypeslib", "numpy.ma"):
    importlib.import_module(_late)  # a user without rights may not read the folder of this Python's library
LIMIT_SECONDS = 120.0
NEW_MOUNTS, NEW_NETWORK = 0x00020000, 0x40000000
CGROUPS = Path("/sys/fs/cgroup")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """A forked process and what it says."""

    pid: int
    output: Path
    gate: int
    tracer: subprocess.Popen[str] | None = None
    code: int | None = None
    began: float = field(default_factory=time.monotonic)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal), None while it runs."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self._ended(status)
        return self.code

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """Its exit code once it is over; it is killed when that takes too long, which is an error."""
        until = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"a child did not end within {seconds:.0f} s:\n{self.errors()}")
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A signal to it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def open_gate(self) -> None:
        """Let it begin."""
        os.write(self.gate, b"!")

    def errors(self) -> str:
        """Its standard error."""
        return self.output.with_suffix(".err").read_text(errors="replace")

    def said(self) -> str:
        """The line of its error, without the warnings before it."""
        lines = [line for line in self.errors().split("\n") if line.startswith("groundup")]
        return lines[-1] if lines else ""

    def _ended(self, status: int) -> None:
        self.code = os.waitstatus_to_exitcode(status)
        os.close(self.gate)
        if self.tracer is not None:
            self.tracer.wait(timeout=10)


_numbers = iter(range(1, 1 << 30))


def start(
    act: Callable[[], int],
    folder: Path,
    environment: Mapping[str, str | None] | None = None,
    before: Callable[[], None] | None = None,
    tracer: Sequence[str] = (),
    wait_at_gate: bool = False,
) -> Child:
    """Fork a child that does `act`, `before` in it first. With a tracer it begins when that is attached."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"child-{next(_numbers)}.out"
    there, gate = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate)
        _be(act, output, environment or {}, before, there if tracer or wait_at_gate else -1)
    os.close(there)
    child = Child(pid, output, gate)
    if tracer:
        child.tracer = _attached(pid, tracer)
        child.open_gate()
    return child


def _be(
    act: Callable[[], int],
    output: Path,
    environment: Mapping[str, str | None],
    before: Callable[[], None] | None,
    gate: int,
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for number, (path, flags) in enumerate(
            [
                (Path(os.devnull), os.O_RDONLY),
                (output, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
                (output.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            ]
        ):
            os.dup2(os.open(path, flags, 0o666), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if gate >= 0:
            os.read(gate, 1)
        if before is not None:
            before()
        code = act()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                continue
        os._exit(code)


def _attached(pid: int, options: Sequence[str]) -> subprocess.Popen[str]:
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert "attached" in line, f"strace does not attach: {line}"
    # Its words about threads must not fill the pipe.
    subprocess.Popen(["cat"], stdin=tracer.stderr, stdout=subprocess.DEVNULL)
    return tracer


def command(words: Sequence[str]) -> Callable[[], int]:
    """The command as what a child does."""
    assert launcher.place() is None, "this process is no rank; and what reads its place is imported, as in a program"
    return lambda: cli.main(list(words))


def limit(what: int, amount: int) -> None:
    """In a child: a limit of resources that it cannot raise again."""
    resource.setrlimit(what, (amount, amount))


def address_space(more_bytes: int) -> None:
    """In a child: so many bytes of addresses more than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + more_bytes)


def unshare(flags: int) -> None:
    """In a child: mounts, or a network, of its own. Raises OSError where that is not allowed."""
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def small_shared_memory() -> None:
    """In a child: a /dev/shm of one page."""
    unshare(NEW_MOUNTS)
    for words in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=4k", "tmpfs", "/dev/shm"]):
        subprocess.run(["mount", *words], check=True)


def nobody() -> None:
    """In a child: a user without rights, and no network."""
    unshare(NEW_NETWORK)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


@contextmanager
def disk(folder: Path, size_bytes: int, inodes: int = 0) -> Iterator[Path]:
    """A file system of this size in memory, at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes}" + (f",nr_inodes={inodes}" if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Inside, nothing can be written to `folder`."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def control_group(kind: str, **values: int) -> Iterator[Callable[[], None]]:
    """A control group (version 1) with these values; gives what a child does to enter it."""
    folder = CGROUPS / kind / f"groundup-battery-{os.getpid()}"
    folder.mkdir()
    try:
        for name, value in values.items():
            (folder / name.replace("__", ".")).write_text(str(value))
        yield lambda: [(folder / "cgroup.procs").write_text("0"), None][1]
    finally:
        for _ in range(100):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def why_not(*needed: str) -> str:
    """Why faults of these kinds cannot be made on this machine; empty where they can."""
    root = os.geteuid() == 0
    checks = {
        "strace": ("strace is not installed", shutil.which("strace") is not None),
        "mount": ("mounting needs root", root),
        "cgroup": ("no control groups of version 1", root and (CGROUPS / "pids").is_dir()),
    }
    return "; ".join(checks[name][0] for name in needed if not checks[name][1])
