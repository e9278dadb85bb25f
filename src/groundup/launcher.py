"""What a process must be told before torch is imported: how its threads wait, and which allocator it uses.

    threads    libgomp's threads spin while they wait for each other; beside any other program that starves both.
               Told to sleep soon, they are 5 times as fast on a busy machine and no slower on an idle one
               (docs/experiments.md).
    memory     training makes and frees large arrays all the time, and an allocator that gives them back to the kernel
               has each of them cleared anew. tcmalloc keeps them; huge pages, asked for by torch or by glibc's own
               malloc where the kernel waits to be asked, make what is cleared anew cheaper. An allocator can only be
               chosen when a process starts, so the command restarts once where there is a choice.

    GROUNDUP_ALLOCATOR   none: no restart; tcmalloc, jemalloc, glibc (huge pages): that one, if it is there;
                         not set: the first of `BY_ITSELF` that is there
    FAULT                faults on purpose, for tests (train/faults.py); refused without runtime.test_faults
    GROUNDUP_OPENMP      intel: threads by libiomp5 (pip install intel-openmp), if it is there; not set: torch's own

    ranks      torchrun tells each process by variables which of how many it is; they are read here and handed in.

    GROUNDUP_STARTED_BY  set for the ranks that the command starts by itself: its process and the folder for their words

Invariant: what the user has set in the environment is left alone, and no result depends on any of it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPIN_COUNT = "10000"
"""Turns of libgomp's waiting loop before a thread sleeps: some 20 microseconds, between two operations of a step."""
ALLOCATORS = ("none", "tcmalloc", "jemalloc", "glibc")
BY_ITSELF = ("tcmalloc", "glibc")
"""What is tried without being asked for, in this order."""
ALLOCATOR_VARIABLE, OPENMP_VARIABLE = "GROUNDUP_ALLOCATOR", "GROUNDUP_OPENMP"
FAULT_VARIABLE = "FAULT"
STARTED_BY_VARIABLE = "GROUNDUP_STARTED_BY"
RESTART_FILE = "restart"
"""File, beside the ranks' words, in which the next ranks find why they were started again."""
_SET_PARENT_DEATH_SIGNAL = 1
_GET_ADDRESS = 0x8915
"""The kernel's SIOCGIFADDR."""
LIBRARIES = {
    "tcmalloc": re.compile(r"libtcmalloc(?:_minimal)?\.so\.\d+"),
    "jemalloc": re.compile(r"libjemalloc\.so\.\d+"),
    "libiomp5": re.compile(r"libiomp5\.so"),
}
FOLDERS = ("usr/lib/{machine}-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib", "usr/local/lib64")
"""Debian and Ubuntu; Fedora; Arch; what somebody built. A Python or conda environment's own `lib` is tried before."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Without the decay times jemalloc gives large blocks back to the kernel: 320,000 page faults a step instead of none.
JEMALLOC_CONF = "background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1"
GLIBC_TUNABLES = "glibc.malloc.hugetlb=1"
TORCH_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""With it torch asks for huge pages for its large arrays, whatever the allocator."""


@dataclass(frozen=True)
class Start:
    """How a training process is started. `variables` are those to set; none: it goes on as it is."""

    allocator: str
    library: str | None = None
    openmp: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def requested_faults() -> str:
    """What the environment's FAULT asks to go wrong, for tests; empty where it is not set."""
    return os.environ.get(FAULT_VARIABLE, "")


def settle_threads() -> None:
    """Let OpenMP threads wait briefly, then sleep, unless the user said otherwise. Call it before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def settle_warnings() -> None:
    """Leave it to us what is said of connections that are lost. Call it before torch is imported."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def find_library(name: str) -> str | None:
    """The library `name` (a key of `LIBRARIES`) of this environment or machine, or None; a minimal variant first."""
    prefixes = [sys.prefix, os.environ.get("CONDA_PREFIX", sys.prefix)]
    machine = os.uname().machine
    folders = [
        *(Path(prefix) / "lib" for prefix in prefixes),
        *(Path("/") / place.format(machine=machine) for place in FOLDERS),
    ]
    for folder in folders:
        found = sorted(str(path) for path in folder.glob("lib*.so*") if LIBRARIES[name].fullmatch(path.name))
        if found:
            return next((path for path in found if "_minimal" in path), found[0])
    return None


def huge_pages_on_request() -> bool:
    """Whether the kernel gives huge pages to a process that asks for them (and not to all of them anyway)."""
    try:
        return "[madvise]" in HUGE_PAGES.read_text()
    except OSError:
        return False


def planned_start() -> Start:
    """What a training command does about its allocator here. A preloaded library of the user's stays the only one."""
    if "LD_PRELOAD" in os.environ:
        return Start("preloaded", os.environ["LD_PRELOAD"])
    asked = os.environ.get(ALLOCATOR_VARIABLE, "")
    tried = (asked,) if asked in ALLOCATORS else BY_ITSELF
    found = next((start for start in map(_start, tried) if start is not None), Start("none"))
    openmp = find_library("libiomp5") if os.environ.get(OPENMP_VARIABLE) == "intel" else None
    preload = " ".join(library for library in (found.library, openmp) if library)
    variables = {**found.variables, **({"LD_PRELOAD": preload} if preload else {})}
    return Start(found.allocator, found.library, openmp, variables)


def _start(allocator: str) -> Start | None:
    """The start with one allocator, or None where it is not to be had."""
    if allocator == "glibc":
        if "GLIBC_TUNABLES" in os.environ:
            return Start("glibc")
        return Start("glibc", variables={"GLIBC_TUNABLES": GLIBC_TUNABLES}) if huge_pages_on_request() else None
    library = find_library(allocator) if allocator in LIBRARIES else None
    if library is None:
        return None
    wanted = {"MALLOC_CONF": JEMALLOC_CONF} if allocator == "jemalloc" else {}
    if huge_pages_on_request():
        wanted[TORCH_HUGE_PAGES] = "1"
    settings = {name: value for name, value in wanted.items() if name not in os.environ}
    return Start(allocator, library, variables=settings)


def restart_with_allocator(arguments: Sequence[str]) -> None:
    """Replace this process by the same command under the planned allocator; returns where nothing is to be changed."""
    variables = planned_start().variables
    if variables:
        os.environ.update(variables)
        os.execv(sys.executable, [sys.executable, "-m", "groundup", *arguments])  # noqa: S606 - this very command


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is, and where they meet, as torchrun says it."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    port: int
    attempt: int
    """How often torchrun has started them before."""
    reports: Path | None = None
    """Folder in which a rank leaves how it failed, where the command started it by itself."""


def place() -> Place | None:
    """This process's place among those that were started together, perhaps the only one; None where it was not."""
    if any(name not in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return None
    if int(os.environ["WORLD_SIZE"]) == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None  # a cluster says it of every pod; only torchrun means that this process is the rank
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    started_by = os.environ.get(STARTED_BY_VARIABLE)
    return Place(
        rank,
        world_size,
        int(os.environ.get("LOCAL_RANK", rank)),
        int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        None if started_by is None else Path(started_by.partition(":")[2]),
    )


def restart_cause(place: Place | None) -> dict[str, Any] | None:
    """Why the ranks of this machine were started again, told once to the first of them."""
    if place is None or place.reports is None or place.local_rank:
        return None
    path = place.reports / RESTART_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
    except FileNotFoundError:
        return None
    return found


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies: no rank outlives its run (Linux)."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return
    prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(STARTED_BY_VARIABLE, "").partition(":")[0]
    if parent and os.getppid() != int(parent):  # it died before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)


def prepare_ranks(reports: Path, address: str, signals: Sequence[str]) -> None:
    """Set what ranks on this machine inherit: their starter, where their words go, on which network they talk.

    `address`: this machine's own on that network. `signals`: those that their starter passes on; under nohup no SIGHUP.
    """
    os.environ[STARTED_BY_VARIABLE] = f"{os.getpid()}:{reports}"
    passed_on = [name for name in signals if name != "SIGHUP" or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN]
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(passed_on)
    settle_warnings()
    if (name := interface_with(address)) is not None:
        # Else gloo takes the address that the machine's name stands for, which is often one that others cannot reach.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_with(address: str) -> str | None:
    """Name of this machine's network interface that has an IPv4 address; None where that cannot be found out."""
    if sys.platform != "linux":
        return None
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                found = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
        if socket.inet_ntoa(found[20:24]) == address:
            return name
    return None
