"""tcmalloc is found and loaded by one restart, threads wait asleep, and what the user has set is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundup import launcher


def test_the_smaller_library_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "Path", lambda root: tmp_path)
    assert launcher.find_tcmalloc() is None
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    for name in (
        "libtcmalloc.so.4",
        "libtcmalloc_minimal.so.4",
        "libtcmalloc_minimal.so.4.5.9",
        "libtcmalloc_debug.so.4",
    ):
        (folder / name).touch()
    assert launcher.find_tcmalloc() == str(folder / "libtcmalloc_minimal.so.4")


@pytest.mark.parametrize("preload", [None, "", "/other.so"])
def test_the_command_restarts_once(preload: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(launcher, "find_tcmalloc", lambda: "/lib/libtcmalloc.so.4")
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.setattr(os, "environ", {} if preload is None else {"LD_PRELOAD": preload})
    launcher.restart_with_tcmalloc(["run", "x.yaml"])
    launcher.restart_with_tcmalloc(["run", "x.yaml"])
    assert [arguments[1:] for arguments in started] == (
        [["-m", "groundup", "run", "x.yaml"]] if preload is None else []
    )


def test_without_the_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "find_tcmalloc", lambda: None)
    monkeypatch.setattr(os, "execv", lambda program, arguments: pytest.fail("restarted"))
    monkeypatch.setattr(os, "environ", {})
    launcher.restart_with_tcmalloc(["run"])


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
