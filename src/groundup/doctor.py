"""This machine -> what it offers for training, what is missing, and the one line that mends it.

Only reads: package metadata, /proc, the compiler search path. Invariant: importing torch or anything else that is slow,
or broken by a bad installation, is never needed to say what is wrong with it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from groundup.kernels import machine
from groundup.launcher import (
    ALLOCATOR_VARIABLE,
    ALLOCATORS,
    BY_ITSELF,
    OPENMP_VARIABLE,
    SPIN_COUNT,
    find_library,
    planned_start,
)

MEMORY_WANTED_BYTES = 4 << 30
DISK_WANTED_BYTES = 5 << 30
TORCH_FLOOR = (2, 10)
ALLOCATOR_GAINS = {
    "tcmalloc": "keeps freed memory, with huge pages, so that the kernel need not clear large arrays again and again",
    "jemalloc": "keeps freed memory as tcmalloc does",
    "glibc": "asks for huge pages, so that fresh memory costs fewer page faults",
    "none": "the C library's own, told to keep freed memory",
}
"""What each allocator gives to training on a CPU."""
TCMALLOC_INSTALLERS = (
    ("apt-get", "apt-get install -y libtcmalloc-minimal4"),
    ("dnf", "dnf install -y gperftools-libs"),
    ("pacman", "pacman -S --noconfirm gperftools"),
    ("zypper", "zypper install -y libtcmalloc_minimal4"),
    ("conda", "conda install -y -c conda-forge gperftools"),
)
COMPILERS = ("c++", "g++", "clang++")
IMPORT_SECONDS = 60
Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy` is a line that can be typed; empty when nothing needs mending."""

    name: str
    level: Level
    value: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def examine(workdir: Path = Path("work")) -> list[Finding]:
    """Look at everything, in the order in which a user would mend it. Never raises."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _torch,
        _torchvision,
        _transformers,
        _processor,
        _memory,
        lambda: _disk(workdir),
        _compiler,
        _kernels,
        _allocator,
        _openmp,
        _gpu,
    )
    return [check() for check in checks]


def version_of(package: str) -> str | None:
    """Installed version from metadata, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _torch() -> Finding:
    version = version_of("torch")
    if version is None:
        return Finding("torch", "problem", "not installed", "pip install 'torch~=2.13.0'")
    if _numbers(version) < TORCH_FLOOR:
        return Finding("torch", "problem", f"{version} is too old", "pip install --upgrade 'torch~=2.13.0'")
    return Finding("torch", "ok", version)


def _torchvision() -> Finding:
    """A torchvision built for another torch fails at import, and with it every package that looks for it."""
    version = version_of("torchvision")
    if version is None:
        return Finding("torchvision", "ok", "not installed (not needed)")
    code, error = _run([sys.executable, "-c", "import torchvision"], IMPORT_SECONDS)
    if code == 0:
        return Finding("torchvision", "ok", f"{version}, works beside this torch")
    last = (error.strip().splitlines() or ["no message"])[-1][:100]
    return Finding(
        "torchvision", "problem", f"{version} breaks imports beside this torch ({last})", "pip uninstall -y torchvision"
    )


def _transformers() -> Finding:
    version = version_of("transformers")
    if version is None:
        value = "not installed (only needed to check exports against Hugging Face)"
        return Finding("transformers", "note", value, "pip install 'transformers>=5.16,<6'")
    return Finding("transformers", "ok", version)


def _processor() -> Finding:
    text = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)[:1]).split())
    units = [name for name in ("amx_bf16", "avx512_bf16", "bf16", "avx512f", "avx2") if name in flags]
    bf16 = any("bf16" in unit for unit in units)
    value = (
        f"{model[1] if model else platform.machine()}, {cores()} cores, {', '.join(units) or 'no vector units known'}"
    )
    if bf16:
        return Finding("processor", "ok", value)
    return Finding(
        "processor", "note", f"{value}; no bf16 units, so fp32 is faster here", "set pretrain.precision=fp32"
    )


def cores() -> int:
    """Cores this process may use: its affinity, and a container's share if that is less."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.fullmatch(r"(\d+) (\d+)\s*", _read("/sys/fs/cgroup/cpu.max"))
    return min(available, max(1, int(quota[1]) // int(quota[2]))) if quota else available


def _memory() -> Finding:
    found = {key: int(kilobytes) * 1024 for key, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", _read("/proc/meminfo"))}
    limits = [_read(f"/sys/fs/cgroup/{name}").strip() for name in ("memory.max", "memory/memory.limit_in_bytes")]
    total = min([found.get("MemTotal", 0), *(int(limit) for limit in limits if limit.isdigit())])
    available = min(found.get("MemAvailable", 0), total)
    value = f"{available / 1e9:.1f} GB available of {total / 1e9:.1f} GB"
    if total == 0:
        return Finding("memory", "note", "not known on this system")
    if available < MEMORY_WANTED_BYTES:
        return Finding("memory", "note", value, "close other programs, or set runtime.micro_batch_rows=1")
    return Finding("memory", "ok", value)


def _disk(workdir: Path) -> Finding:
    place = next(folder for folder in (workdir, *workdir.absolute().parents) if folder.is_dir())
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("disk", "problem", f"{place}: {error.strerror}", "set runtime.workdir=/another/disk")
    value = f"{free / 1e9:.0f} GB free in {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} cannot be written", "set runtime.workdir=/a/folder/you/may/write")
    if free < DISK_WANTED_BYTES:
        return Finding("disk", "note", value, "set runtime.workdir=/another/disk")
    return Finding("disk", "ok", value)


def _compiler() -> Finding:
    """The kernels need a C++ compiler, torch.compile Python's headers as well; without either training runs eagerly."""
    found = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if found and headers.is_file():
        return Finding("compiler", "ok", f"{found}, with Python's headers")
    lacking = "no C++ compiler" if not found else f"{found}, but no {headers}"
    return Finding(
        "compiler", "note", f"{lacking}: training is slower on some machines", "apt-get install -y g++ python3-dev"
    )


def _kernels() -> Finding:
    """Groundup's own kernels for bf16 on a CPU; what they lack cannot always be mended."""
    obstacle = machine.unsupported()
    if obstacle is None:
        return Finding("kernels", "ok", "own CPU kernels can be used; compiled at their first use, in seconds")
    remedy = "apt-get install -y g++" if "compiler" in obstacle else ""
    return Finding("kernels", "note", f"not used: {obstacle}; torch.compile or eager PyTorch serve instead", remedy)


def _allocator() -> Finding:
    """What training commands take (the launcher decides), what else was found, and how to get the better one."""
    start = planned_start()
    if start.allocator == "preloaded":
        shown = start.library or "nothing"
        return Finding("allocator", "ok", f"LD_PRELOAD is set to {shown}: left alone, no other allocator is loaded")
    asked = os.environ.get(ALLOCATOR_VARIABLE, "")
    if asked and asked not in ALLOCATORS:
        value = f"{ALLOCATOR_VARIABLE}={asked} is not one of {', '.join(ALLOCATORS)}, so it counts as not set"
        return Finding("allocator", "note", value, f"unset {ALLOCATOR_VARIABLE}")
    others = [name for name in ("tcmalloc", "jemalloc") if name != start.allocator and find_library(name)]
    value = f"{start.allocator} ({start.library})" if start.library else start.allocator
    value = f"{value}, used by every training command: {ALLOCATOR_GAINS[start.allocator]}"
    if others:
        value += f"; {', '.join(others)} found too ({ALLOCATOR_VARIABLE} chooses)"
    if asked in (start.allocator, "none"):
        return Finding("allocator", "ok", f"{value}; asked for: {asked}")
    if asked:
        return Finding(
            "allocator", "note", f"{value}; {asked} was asked for and not found", f"unset {ALLOCATOR_VARIABLE}"
        )
    if start.allocator == BY_ITSELF[0]:
        return Finding("allocator", "ok", value)
    return Finding("allocator", "note", f"{value}; tcmalloc not found", _tcmalloc_installer())


def _tcmalloc_installer() -> str:
    """The line that installs tcmalloc with this machine's package manager; Debian's where none is known."""
    known = (line for program, line in TCMALLOC_INSTALLERS if shutil.which(program))
    return next(known, TCMALLOC_INSTALLERS[0][1])


def _openmp() -> Finding:
    """Which OpenMP runtime torch's threads and the kernels share; Intel's is an option and not needed."""
    start, found = planned_start(), find_library("libiomp5")
    waiting = os.environ.get("OMP_WAIT_POLICY") or f"threads wait {os.environ.get('GOMP_SPINCOUNT', SPIN_COUNT)} turns"
    if start.openmp:
        return Finding("openmp", "ok", f"libiomp5 ({start.openmp}), as {OPENMP_VARIABLE}=intel asks")
    value = f"libgomp, as torch brings it ({waiting})"
    if os.environ.get(OPENMP_VARIABLE) == "intel" and start.allocator != "preloaded":
        return Finding("openmp", "note", f"{value}; libiomp5 was asked for and not found", "pip install intel-openmp")
    return Finding("openmp", "ok", f"{value}; libiomp5 found too ({OPENMP_VARIABLE}=intel)" if found else value)


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("gpu", "note", "none found: training runs on the CPU")
    code, _ = _run([program, "-L"], 20)
    version = version_of("torch") or ""
    if code == 0 and "+cpu" in version:
        return Finding(
            "gpu", "problem", "there is one, but this torch is a CPU build", "pip install --force-reinstall torch"
        )
    return (
        Finding("gpu", "ok", "NVIDIA") if code == 0 else Finding("gpu", "note", "nvidia-smi is there, but finds none")
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _run(command: list[str], limit_seconds: int) -> tuple[int, str]:
    """Exit code and stderr of a short program; what cannot be started or takes too long has failed."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs, no shell
            command, capture_output=True, text=True, timeout=limit_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stderr
