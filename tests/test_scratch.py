"""Temporary folders: gone with their owner, and with the next start where it was killed; never one in use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from groundup.errors import ResourceError
from groundup.scratch import scratch_folder

OWNER = """
import sys, time
from pathlib import Path
from groundup.scratch import scratch_folder
with scratch_folder("words", Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_goes_with_its_block_and_with_all_in_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError), scratch_folder("words", tmp_path) as folder:
        (folder / "inner").mkdir()
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_owner_goes_at_the_next_start_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            theirs = Path(owner.stdout.readline().strip())
            with scratch_folder("words", tmp_path) as ours:
                assert theirs.is_dir() and ours != theirs
            assert (theirs / "file").is_file()
        finally:
            os.kill(owner.pid, signal.SIGKILL)
    with scratch_folder("other", tmp_path):
        assert theirs.is_dir(), "each purpose looks after its own"
    with scratch_folder("words", tmp_path):
        assert not theirs.exists()


def test_what_only_has_such_a_name_is_left_alone(tmp_path: Path) -> None:
    outside, link, file = tmp_path / "outside", tmp_path / "groundup-words-a.tmp", tmp_path / "groundup-words-b.tmp"
    outside.mkdir()
    (outside / "kept").touch()
    link.symlink_to(outside)
    file.touch()
    with scratch_folder("words", tmp_path):
        assert (outside / "kept").exists() and file.exists()


def test_without_a_place_for_it_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(ResourceError, match="set TMPDIR"), scratch_folder("words"):
        raise AssertionError
