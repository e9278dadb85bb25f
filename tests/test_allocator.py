"""tcmalloc: found where it is, loaded by one restart, and an LD_PRELOAD of the user's is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundup import allocator


def test_the_smaller_library_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "Path", lambda root: tmp_path)
    assert allocator.find_tcmalloc() is None
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    for name in (
        "libtcmalloc.so.4",
        "libtcmalloc_minimal.so.4",
        "libtcmalloc_minimal.so.4.5.9",
        "libtcmalloc_debug.so.4",
    ):
        (folder / name).touch()
    assert allocator.find_tcmalloc() == str(folder / "libtcmalloc_minimal.so.4")


@pytest.mark.parametrize("preload", [None, "", "/other.so"])
def test_the_command_restarts_once(preload: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(allocator, "find_tcmalloc", lambda: "/lib/libtcmalloc.so.4")
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    if preload is not None:
        monkeypatch.setenv("LD_PRELOAD", preload)
    allocator.restart_with_tcmalloc(["run", "x.yaml"])
    allocator.restart_with_tcmalloc(["run", "x.yaml"])
    assert [arguments[1:] for arguments in started] == (
        [["-m", "groundup", "run", "x.yaml"]] if preload is None else []
    )


def test_without_the_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "find_tcmalloc", lambda: None)
    monkeypatch.setattr(os, "execv", lambda program, arguments: pytest.fail("restarted"))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    allocator.restart_with_tcmalloc(["run"])
