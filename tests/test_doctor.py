"""The doctor: says what is wrong and the line that mends it, whatever the machine lacks, without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup import doctor, launcher
from groundup.doctor import examine

NAMES = ["python", "torch", "torchvision", "transformers", "processor"]
NAMES += ["memory", "disk", "compiler", "kernels", "allocator", "openmp", "gpu"]


def finding(name: str) -> doctor.Finding:
    return next(found for found in examine() if found.name == name)


def test_everything_is_looked_at_once() -> None:
    found = examine()
    assert [one.name for one in found] == NAMES
    assert all(one.remedy or one.level == "ok" or one.name in ("gpu", "memory", "kernels") for one in found)
    assert all(set(one.as_dict()) == {"name", "level", "value", "remedy"} for one in found)


@pytest.mark.parametrize(
    ("versions", "name", "level", "remedy"),
    [
        ({"torch": None}, "torch", "problem", "pip install"),
        ({"torch": "2.9.1+cpu"}, "torch", "problem", "--upgrade"),
        ({"torch": "2.10.0"}, "torch", "ok", ""),
        ({"torch": "3.0.0a1"}, "torch", "ok", ""),
        ({"transformers": None}, "transformers", "note", "pip install"),
        ({"torchvision": "0.28.0"}, "torchvision", "problem", "pip uninstall -y torchvision"),
    ],
)
def test_packages_are_judged_by_their_metadata(
    versions: dict[str, str | None], name: str, level: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor.version_of
    monkeypatch.setattr(
        doctor, "version_of", lambda package: versions[package] if package in versions else real(package)
    )
    monkeypatch.setattr(
        doctor, "_run", lambda command, limit: (1, "RuntimeError: operator torchvision::nms does not exist")
    )
    found = finding(name)
    assert found.level == level
    assert remedy in found.remedy
    if name == "torchvision":
        assert "nms does not exist" in found.value


def test_a_machine_without_anything_is_still_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_read", lambda path: "")
    monkeypatch.setattr(doctor, "version_of", lambda package: None)
    monkeypatch.setattr(launcher, "find_library", lambda name: None)
    monkeypatch.setattr(doctor, "find_library", lambda name: None)
    for name in ("LD_PRELOAD", launcher.ALLOCATOR_VARIABLE, launcher.OPENMP_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    found = {one.name: one for one in examine()}
    assert list(found) == NAMES
    assert "no C++ compiler" in found["compiler"].value
    assert found["kernels"].level == "note" and "not used" in found["kernels"].value
    assert "libtcmalloc" in found["allocator"].remedy
    assert found["memory"].level == "note"
    assert "fp32" in found["processor"].remedy


@pytest.mark.parametrize(
    ("libraries", "pages", "variables", "level", "said", "remedy"),
    [
        (["tcmalloc"], "", {}, "ok", "tcmalloc (/x/tcmalloc), used by every", ""),
        (["tcmalloc", "jemalloc"], "", {}, "ok", "jemalloc found too", ""),
        (["jemalloc"], "", {}, "note", "none, used by every", "libtcmalloc-minimal4"),
        ([], "[madvise]", {}, "note", "glibc, used by every", "libtcmalloc-minimal4"),
        (["jemalloc"], "", {"GROUNDUP_ALLOCATOR": "jemalloc"}, "ok", "asked for: jemalloc", ""),
        ([], "", {"GROUNDUP_ALLOCATOR": "jemalloc"}, "note", "was asked for and not found", "unset"),
        (["tcmalloc"], "", {"GROUNDUP_ALLOCATOR": "none"}, "ok", "none, used by every", ""),
        (["tcmalloc"], "", {"GROUNDUP_ALLOCATOR": "tcmaloc"}, "note", "tcmaloc is not one of none, tcmalloc", "unset"),
        (["tcmalloc"], "", {"LD_PRELOAD": "/y/mine.so"}, "ok", "set to /y/mine.so: left alone", ""),
    ],
)
def test_the_allocator_is_that_of_the_launcher(
    libraries: list[str],
    pages: str,
    variables: dict[str, str],
    level: str,
    said: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> str | None:
        return f"/x/{name}" if name in libraries else None

    for module in (launcher, doctor):
        monkeypatch.setattr(module, "find_library", find)
    (tmp_path / "enabled").write_text(pages)
    monkeypatch.setattr(launcher, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setattr(doctor.shutil, "which", lambda program: "/bin/apt-get" if program == "apt-get" else None)
    monkeypatch.setattr(os, "environ", dict(variables))
    found = doctor._allocator()
    assert found.level == level
    assert said in found.value
    assert remedy in found.remedy
    assert bool(found.remedy) == (level != "ok")


@pytest.mark.parametrize(
    ("found", "asked", "level", "said"),
    [
        (False, False, "ok", "libgomp, as torch brings it"),
        (True, False, "ok", "libiomp5 found too"),
        (True, True, "ok", "libiomp5 (/x/libiomp5)"),
        (False, True, "note", "not found"),
    ],
)
def test_the_openmp_runtime_is_told(
    found: bool, asked: bool, level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (launcher, doctor):
        monkeypatch.setattr(module, "find_library", lambda name: f"/x/{name}" if found and name == "libiomp5" else None)
    monkeypatch.setattr(os, "environ", {launcher.OPENMP_VARIABLE: "intel"} if asked else {})
    openmp = doctor._openmp()
    assert openmp.level == level
    assert said in openmp.value
    assert bool(openmp.remedy) == (level == "note")


@pytest.mark.parametrize(("program", "line"), doctor.TCMALLOC_INSTALLERS)
def test_the_remedy_is_of_this_machines_package_manager(
    program: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda asked: "/bin/it" if asked == program else None)
    assert doctor._tcmalloc_installer() == line


def test_units_and_limits_are_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/cpuinfo": "model name\t: Toy CPU\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n",
        "/proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:   9000000 kB\n",
        "/sys/fs/cgroup/memory.max": "2000000000\n",
        "/sys/fs/cgroup/cpu.max": "100000 100000\n",
    }
    monkeypatch.setattr(doctor, "_read", lambda path: texts.get(path, ""))
    found = {one.name: one for one in examine()}
    assert found["processor"].value == "Toy CPU, 1 cores, amx_bf16, avx512_bf16, avx2"
    assert "of 2.0 GB" in found["memory"].value
    assert found["memory"].level == "note"


def test_the_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    found = next(one for one in examine(tmp_path / "not" / "made" / "yet") if one.name == "disk")
    assert str(tmp_path) in found.value


def test_a_program_that_hangs_or_is_missing_has_failed() -> None:
    assert doctor._run([sys.executable, "-c", "import time; time.sleep(60)"], 1)[0] != 0
    assert doctor._run(["no-such-program"], 1)[0] != 0


def test_torch_is_not_imported() -> None:
    script = "import sys; from groundup.doctor import examine; examine(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
