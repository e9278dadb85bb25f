"""The allocator is found and loaded by one restart, threads wait asleep, and what the user has set is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup import launcher


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any library, nothing set, and huge pages for all."""
    monkeypatch.setattr(launcher, "Path", lambda place: tmp_path / str(place).lstrip("/"))
    monkeypatch.setattr(launcher, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setattr(os, "environ", {})
    (tmp_path / "enabled").write_text("[always] madvise never\n")
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: commands.append(arguments[1:]))
    return commands


def install(machine: Path, *names: str) -> list[str]:
    """Put empty libraries onto the machine; returns their paths."""
    paths = [machine / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [str(path) for path in paths]


LIBRARY = f"usr/lib/{os.uname().machine}-linux-gnu"


def test_the_smaller_library_is_preferred(machine: Path) -> None:
    assert launcher.find_library("tcmalloc") is None
    names = ("libtcmalloc.so.4", "libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so.4.5.9", "libtcmalloc_debug.so.4")
    paths = install(machine, *(f"{LIBRARY}/{name}" for name in names))
    assert launcher.find_library("tcmalloc") == paths[1]


@pytest.mark.parametrize("folder", [LIBRARY, "usr/lib64", "usr/lib", "usr/local/lib", "opt/conda/lib"])
@pytest.mark.parametrize(
    ("name", "file"), [("tcmalloc", "libtcmalloc.so.4"), ("jemalloc", "libjemalloc.so.2"), ("libiomp5", "libiomp5.so")]
)
def test_libraries_are_found_where_distributions_put_them(machine: Path, folder: str, name: str, file: str) -> None:
    os.environ["CONDA_PREFIX"] = "/opt/conda"
    (path,) = install(machine, f"{folder}/{file}")
    assert launcher.find_library(name) == path


def test_a_library_for_another_processor_is_not_taken(machine: Path) -> None:
    install(machine, "usr/lib/s390-linux-gnu/libtcmalloc.so.4")
    assert launcher.find_library("tcmalloc") is None


@pytest.mark.parametrize("preload", [None, "", "/other.so"])
def test_the_command_restarts_once(preload: str | None, machine: Path, started: list[list[str]]) -> None:
    (path,) = install(machine, f"{LIBRARY}/libtcmalloc_minimal.so.4")
    if preload is not None:
        os.environ["LD_PRELOAD"] = preload
    launcher.restart_with_allocator(["run", "x.yaml"])
    launcher.restart_with_allocator(["run", "x.yaml"])
    assert started == ([["-m", "groundup", "run", "x.yaml"]] if preload is None else [])
    assert os.environ["LD_PRELOAD"] == (path if preload is None else preload)


@pytest.mark.parametrize(
    ("asked", "pages", "expected"),
    [
        (None, "madvise", {"LD_PRELOAD": "libtcmalloc.so.4", "THP_MEM_ALLOC_ENABLE": "1"}),
        ("nonsense", "madvise", {"LD_PRELOAD": "libtcmalloc.so.4", "THP_MEM_ALLOC_ENABLE": "1"}),
        ("none", "madvise", {}),
        ("tcmalloc", "always", {"LD_PRELOAD": "libtcmalloc.so.4"}),
        ("jemalloc", "always", {"LD_PRELOAD": "libjemalloc.so.2", "MALLOC_CONF": launcher.JEMALLOC_CONF}),
        ("glibc", "madvise", {"GLIBC_TUNABLES": launcher.GLIBC_TUNABLES}),
        ("glibc", "always", {}),
        ("glibc", "never", {}),
    ],
)
def test_the_user_chooses_the_allocator(
    asked: str | None, pages: str, expected: dict[str, str], machine: Path, started: list[list[str]]
) -> None:
    install(machine, f"{LIBRARY}/libtcmalloc.so.4", f"{LIBRARY}/libjemalloc.so.2")
    (machine / "enabled").write_text("always madvise never\n".replace(pages, f"[{pages}]"))
    given = {} if asked is None else {"GROUNDUP_ALLOCATOR": asked}
    os.environ.update(given)
    for _ in range(2):
        launcher.restart_with_allocator(["run"])
    assert len(started) == bool(expected)
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    found = {key: Path(value).name if key == "LD_PRELOAD" else value for key, value in os.environ.items()}
    assert found == {**given, **expected}


def test_without_libraries_huge_pages_are_asked_for_where_the_kernel_waits_to_be_asked(
    machine: Path, started: list[list[str]]
) -> None:
    launcher.restart_with_allocator(["run"])
    assert started == []
    (machine / "enabled").write_text("always [madvise] never\n")
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.check=0"
    launcher.restart_with_allocator(["run"])
    assert started == [], "the user's own tunables stay"
    del os.environ["GLIBC_TUNABLES"]
    launcher.restart_with_allocator(["run"])
    launcher.restart_with_allocator(["run"])
    assert len(started) == 1


def test_intels_threads_are_an_option_beside_the_allocator(machine: Path, started: list[list[str]]) -> None:
    tcmalloc, openmp = install(machine, f"{LIBRARY}/libtcmalloc.so.4", "usr/local/lib/libiomp5.so")
    assert launcher.planned_start().openmp is None
    os.environ["GROUNDUP_OPENMP"] = "intel"
    assert launcher.planned_start().openmp == openmp
    launcher.restart_with_allocator(["run"])
    launcher.restart_with_allocator(["run"])
    assert os.environ["LD_PRELOAD"] == f"{tcmalloc} {openmp}"
    assert len(started) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": launcher.SPIN_COUNT}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_threads_soon_sleep_while_they_wait_unless_told_otherwise(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    launcher.settle_threads()
    assert os.environ == expected


def test_the_planned_start_really_starts() -> None:
    """With whatever this machine has: a Python with those variables runs, and says nothing about them."""
    variables = {**os.environ, **launcher.planned_start().variables}
    done = subprocess.run([sys.executable, "-c", "print(1)"], env=variables, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_place_is_read_where_torchrun_gave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}
    monkeypatch.setattr(os, "environ", {**given, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert launcher.place() == launcher.Place(3, 4, 1, 2, "host", 29500, attempt=0)
    os.environ["GROUNDUP_STARTED_BY"], os.environ["TORCHELASTIC_RESTART_COUNT"] = "12:/tmp/words", "2"
    assert launcher.place() == launcher.Place(3, 4, 1, 2, "host", 29500, attempt=2, reports=Path("/tmp/words"))
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "a"}
    assert launcher.place() is not None, "one rank that torchrun left, where there were more"


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_the_network_of_an_address_is_found() -> None:
    assert launcher.interface_with("127.0.0.1") == "lo"
    assert launcher.interface_with("192.0.2.7") is None


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "8"}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_a_process_is_alone_unless_it_is_told_all(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Some clusters set WORLD_SIZE for purposes of their own.
    monkeypatch.setattr(os, "environ", {"MASTER_ADDR": "host", "MASTER_PORT": "1", **environment})
    assert launcher.place() is None
