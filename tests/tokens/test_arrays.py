"""Stretches of stored numbers are what was written; opening reads nothing, and nothing stays open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import arrays
from groundup.tokens.arrays import StoredArrays, write_array


def stored(folder: Path, sizes: list[int], dtype: str = "<u2") -> tuple[StoredArrays, list[np.ndarray]]:
    arrays = [np.arange(size, dtype=dtype) * (i + 3) for i, size in enumerate(sizes)]
    paths = [folder / f"{i}.bin" for i in range(len(sizes))]
    for path, array in zip(paths, arrays):
        write_array(path, array)
    return StoredArrays(paths, sizes, dtype), arrays


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["<u2", "<u4", "<i8"]))
def test_any_stretch_is_what_was_written(tmp_path: Path, data: st.DataObject, dtype: str) -> None:
    files, arrays = stored(tmp_path, [50, 1, 700], dtype)
    file = data.draw(st.integers(0, 2))
    first = data.draw(st.integers(0, len(arrays[file])))
    count = data.draw(st.integers(0, len(arrays[file]) - first))
    found = files.read(file, first, count)
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, arrays[file][first : first + count])


def test_a_read_that_comes_in_pieces_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, arrays = stored(tmp_path, [300])
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda number, length, start: whole(number, min(length, 7), start))
    assert np.array_equal(files.read(0, 20, 250), arrays[0][20:270])


def test_opening_reads_no_data_and_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, [100] * 40)
    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *given: pytest.fail("opened"))
        files = StoredArrays([tmp_path / f"{i}.bin" for i in range(40)], [100] * 40, "<u2")
    for file in range(40):
        files.read(file, 5, 10)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_file_cut_short_or_lost_in_use_is_an_error_of_the_data(tmp_path: Path) -> None:
    files, arrays = stored(tmp_path, [100, 100])
    os.truncate(tmp_path / "0.bin", 101)
    (tmp_path / "1.bin").unlink()
    assert np.array_equal(files.read(0, 0, 50), arrays[0][:50])
    with pytest.raises(DataError, match=r"0\.bin: was cut short"):
        files.read(0, 50, 1)
    with pytest.raises(DataError, match=r"1\.bin: cannot be read"):
        files.read(1, 0, 1)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_array(tmp_path / "a.bin", np.arange(3))

    def no_rename(*given: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", no_rename)
    with pytest.raises(OSError, match="disk full"):
        write_array(tmp_path / "a.bin", np.arange(9))
    assert np.array_equal(np.fromfile(tmp_path / "a.bin", dtype=np.int64), np.arange(3))


def test_an_error_of_the_disk_names_file_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = stored(tmp_path, [300])

    def failing(descriptor: int, length: int, start: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(DataError, match=r"0\.bin: cannot be read from byte 40 on \(Input/output error\)"):
        files.read(0, 20, 10)


def test_what_a_full_disk_lets_be_written_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrays, "fsync_file", full)
    with pytest.raises(OSError, match="No space"):
        write_array(tmp_path / "a.bin", np.arange(9))
    assert list(tmp_path.iterdir()) == []
