"""tcmalloc: whether this machine has it, and starting this command again with it.

Training makes and frees large arrays all the time, and with glibc's allocator each of them is fresh memory that the
kernel has to clear; tcmalloc keeps it, which makes training on a CPU about a fifth faster. An allocator can only be
chosen when a process starts, hence the restart. Invariant: an LD_PRELOAD that is set, even to nothing, is left alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

PLACES = ("usr/lib/*/libtcmalloc*.so.*", "usr/lib/libtcmalloc*.so.*", "usr/lib64/libtcmalloc*.so.*")
_LIBRARY = re.compile(r"libtcmalloc(_minimal)?\.so\.\d+$")


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
