"""C++ source of this room -> shared library, compiled once per machine, in seconds, for all shapes.

    train.cpp --g++ -O3 -march=native--> ~/.cache/groundup/kernels/train-<digest>.so --ctypes--> functions

The files have a plain C interface and include no header of torch, hence the seconds. They are linked without an OpenMP
runtime of their own: the symbols come from the one that torch has loaded, so both share one pool of threads and
`torch.set_num_threads` holds for both.

Invariant: `library` gives a working library or None with a reason; never an error, and never half a file.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from groundup.kernels.machine import compiler, processor_flags, unsupported

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
COMPILE_LIMIT_SECONDS = 120


def library(name: str) -> ctypes.CDLL | None:
    """The library made of `<name>.cpp`, compiled at the first call on this machine; None where that cannot be."""
    return _attempt(name)[0]


def obstacle(name: str) -> str | None:
    """Why `library(name)` is None, in words for people; None when it is there."""
    return _attempt(name)[1]


@functools.cache
def _attempt(name: str) -> tuple[ctypes.CDLL | None, str | None]:
    reason = unsupported()
    if reason:
        return None, reason
    try:
        return ctypes.CDLL(str(_compiled(SOURCES / f"{name}.cpp"))), None
    except (OSError, subprocess.SubprocessError) as fault:
        shown = getattr(fault, "stderr", None) or str(fault)
        return None, f"{name}.cpp could not be compiled or loaded: {str(shown).strip()[:300]}"


def _compiled(source: Path) -> Path:
    path = compiler()
    assert path is not None, "asked by `unsupported`"
    headers = b"".join(header.read_bytes() for header in sorted(SOURCES.glob("*.h")))
    asked = [path, "-dumpfullversion", "-dumpmachine"]
    version = subprocess.run(asked, capture_output=True, check=True, timeout=20)  # noqa: S603 - the compiler
    # -march=native means another machine's library may not run here, and a home may be shared between machines.
    parts = (source.read_bytes(), headers, version.stdout, " ".join(FLAGS).encode(), _processor().encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]
    target = _cache_folder() / f"{source.stem}-{digest}.so"
    if not target.exists():
        _compile(path, source, target)
    return target


def _compile(path: str, source: Path, target: Path) -> None:
    """Compile beside the target and rename, so that two processes at once do no harm."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        half, whole = f"{folder}/kernel.o", f"{folder}/kernel.so"
        for command in ([path, *FLAGS, "-c", str(source), "-o", half], [path, "-shared", half, "-o", whole]):
            subprocess.run(  # noqa: S603 - the compiler, on our own source
                command, capture_output=True, check=True, text=True, timeout=COMPILE_LIMIT_SECONDS
            )
        os.replace(whole, target)


def _processor() -> str:
    return " ".join(sorted(processor_flags()))


def _cache_folder() -> Path:
    """A folder that only this user may write, since what lies there is run."""
    try:
        folder = Path.home() / ".cache" / "groundup" / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        folder = Path(tempfile.gettempdir(), f"groundup-kernels-{os.getuid()}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            folder = Path(tempfile.mkdtemp(prefix="groundup-kernels-"))  # somebody else's under our name
    return folder


assert torch.get_num_threads() > 0  # torch's OpenMP runtime is loaded before any library of this room asks for it
