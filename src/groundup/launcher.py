"""What a process must be told before torch is imported: how its threads wait, and which allocator it uses.

    threads    libgomp's threads spin while they wait for each other; beside any other program that starves both.
               Told to sleep soon, they are 5 times as fast on a busy machine and no slower on an idle one
               (docs/experiments.md).
    memory     training makes and frees large arrays all the time, and with glibc each of them is fresh memory that the
               kernel has to clear; tcmalloc keeps it. An allocator can only be chosen when a process starts, so the
               command restarts once where tcmalloc is installed.

Invariant: what the user has set in the environment is left alone, and no result depends on any of it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

SPIN_COUNT = "10000"
"""Turns of libgomp's waiting loop before a thread sleeps: some 20 microseconds, between two operations of a step."""
PLACES = ("usr/lib/*/libtcmalloc*.so.*", "usr/lib/libtcmalloc*.so.*", "usr/lib64/libtcmalloc*.so.*")
_LIBRARY = re.compile(r"libtcmalloc(_minimal)?\.so\.\d+$")


def settle_threads() -> None:
    """Let OpenMP threads wait briefly, then sleep, unless the user said otherwise. Call it before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def find_tcmalloc() -> str | None:
    """The tcmalloc library of this machine (the smaller variant if there are two), or None."""
    found = sorted(str(path) for place in PLACES for path in Path("/").glob(place) if _LIBRARY.fullmatch(path.name))
    minimal = [path for path in found if "_minimal" in path]
    return next(iter(minimal or found), None)


def restart_with_tcmalloc(arguments: Sequence[str]) -> None:
    """Replace this process by the same command with tcmalloc loaded; returns where there is none or it is loaded."""
    library = None if "LD_PRELOAD" in os.environ else find_tcmalloc()
    if library:
        os.environ["LD_PRELOAD"] = library
        os.execv(sys.executable, [sys.executable, "-m", "groundup", *arguments])  # noqa: S606 - this very command
