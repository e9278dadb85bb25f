"""Compiling the kernels: once a machine, never half, and a reason where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundup.kernels import build, machine

needs_compiler = pytest.mark.skipif(machine.unsupported() is not None, reason=f"kernels: {machine.unsupported()}")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room of its own with one source file, and a home of its own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "toy.cpp").write_text('extern "C" int answer() { return 42; }')
    monkeypatch.setattr(build, "SOURCES", folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    build._attempt.cache_clear()
    return folder


def libraries(home: Path) -> list[Path]:
    return sorted((home / ".cache" / "groundup" / "kernels").glob("*.so"))


@needs_compiler
def test_a_library_is_compiled_once_and_again_when_its_source_changes(sources: Path) -> None:
    home = sources.parent / "home"
    found = build.library("toy")
    assert found is not None and found.answer() == 42
    first = libraries(home)
    stamp = first[0].stat().st_mtime_ns
    build._attempt.cache_clear()
    assert build.library("toy") is not None
    assert libraries(home) == first and first[0].stat().st_mtime_ns == stamp
    (sources / "toy.cpp").write_text('extern "C" int answer() { return 43; }')
    build._attempt.cache_clear()
    changed = build.library("toy")
    assert changed is not None and changed.answer() == 43
    assert len(libraries(home)) == 2


@needs_compiler
def test_a_source_that_does_not_compile_is_said_and_leaves_nothing(sources: Path) -> None:
    (sources / "toy.cpp").write_text("this is no C++")
    assert build.library("toy") is None
    assert "toy.cpp could not be compiled" in str(build.obstacle("toy"))
    assert libraries(sources.parent / "home") == []


@needs_compiler
def test_a_home_that_cannot_be_written_is_no_obstacle(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = sources.parent / "file"
    blocked.write_text("a file where the home should be")
    monkeypatch.setenv("HOME", str(blocked))
    found = build.library("toy")
    assert found is not None and found.answer() == 42


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("processor_flags", frozenset[str](), "avx512_bf16"),
        ("compiler", None, "C++ compiler"),
    ],
)
def test_what_is_missing_is_named(
    what: str, value: object, said: str, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine, "processor_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(machine, "compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr(machine, what, lambda: value)
    assert build.library("toy") is None
    assert said in str(build.obstacle("toy"))
