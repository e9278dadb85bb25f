"""What the kernels ask of a machine, found without torch and without compiling anything.

Invariant: only reads; `unsupported` names the first thing that is missing.
"""

from __future__ import annotations

import functools
import platform
import shutil
from pathlib import Path

COMPILERS = ("g++", "c++")


def unsupported() -> str | None:
    """What this machine lacks for any of the kernels, found without compiling; None when nothing."""
    if platform.system() != "Linux":
        return "the kernels are for Linux"
    if "avx512_bf16" not in processor_flags():
        return "the processor has no avx512_bf16 instructions"
    if compiler() is None:
        return "there is no C++ compiler (install g++)"
    return None


@functools.cache
def processor_flags() -> frozenset[str]:
    """The instruction sets that Linux names for the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def compiler() -> str | None:
    """The path of the C++ compiler, if there is one."""
    return next((path for path in map(shutil.which, COMPILERS) if path), None)
