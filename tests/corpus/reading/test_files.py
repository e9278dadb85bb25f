"""Paths become regular files in a fixed order; everything else is named and left alone."""

import os

import pytest

from groundup.corpus.reading.files import find_files, resolve_path
from groundup.errors import DataError, first_line


def test_file_folder_and_glob_relative_to_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("b.txt", "a.md", "sub/c.jsonl.gz", "sub/d.py", ".hidden.txt"):
        (tmp_path / "data" / name).write_text("x")
    monkeypatch.chdir("/")
    names = [file.name for file in find_files("data", tmp_path).files]
    assert names == ["a.md", "b.txt", "sub/c.jsonl.gz"]
    assert [file.name for file in find_files("data/b.txt", tmp_path).files] == ["b.txt"]
    assert [file.name for file in find_files("data/**/*.py", tmp_path).files] == ["sub/d.py"]
    assert resolve_path("data/*.txt", tmp_path) == [tmp_path / "data" / "b.txt"]
    monkeypatch.chdir(tmp_path / "data")
    assert resolve_path("b.txt", tmp_path / "elsewhere") == [tmp_path / "data" / "b.txt"]


def test_a_file_that_two_paths_name_is_read_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/x.txt", "a/b/y.txt"):
        (tmp_path / name).write_text("x")
    found = find_files((str(tmp_path / "a/b/*"), str(tmp_path / "a"), str(tmp_path / "a/**/*.txt")), tmp_path)
    assert [file.name for file in found.files] == ["*/y.txt", "a/x.txt"]
    assert {skipped.reason for skipped in found.skipped} == {"named by another path of the source"}
    assert len(found.skipped) == 3


def test_folders_that_a_pattern_names_are_said(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.txt").write_text("x")
    assert [one.name for one in find_files(str(tmp_path / "a/*"), tmp_path).skipped] == ["b"]
    with pytest.raises(DataError, match=r"folder: end the pattern with \*\*"):
        find_files(str(tmp_path / "*"), tmp_path)


def test_what_is_no_file_is_skipped_and_named(tmp_path):
    (tmp_path / "good.txt").write_text("x")
    os.mkfifo(tmp_path / "fifo.jsonl")
    os.symlink("loop_b", tmp_path / "loop_a")
    os.symlink("loop_a", tmp_path / "loop_b")
    os.symlink("nowhere", tmp_path / "broken.txt")
    os.symlink("/dev/zero", tmp_path / "zero.txt")
    (tmp_path / "sub").mkdir()
    os.symlink(tmp_path, tmp_path / "sub" / "back")
    (tmp_path / "script.py").write_text("x")
    found = find_files(str(tmp_path), tmp_path)
    assert [file.name for file in found.files] == ["good.txt"]
    assert {skipped.name: skipped.reason.split(",")[0].split(" (")[0] for skipped in found.skipped} == {
        "fifo.jsonl": "pipe",
        "loop_a": "symlink loop",
        "loop_b": "symlink loop",
        "broken.txt": "broken symlink",
        "zero.txt": "device",
        "sub/back": "folder that cannot be listed",
        "script.py": "not a known file type",
    }


def test_odd_names_are_escaped(tmp_path):
    (tmp_path / "new\nline<img>.txt").write_text("x")
    with open(os.fsencode(tmp_path) + b"/bad\xff\xfe.txt", "w") as handle:
        handle.write("x")
    names = [file.name for file in find_files(str(tmp_path), tmp_path).files]
    assert names == ["bad\\udcff\\udcfe.txt", "new\\nline<img>.txt"]
    assert all(name.encode() for name in names)


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.txt", "empty", "fifo"])
def test_nothing_to_read_is_a_data_error_with_a_remedy(tmp_path, path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError) as caught:
        resolve_path(path, tmp_path)
    assert caught.value.exit_code == 3
    assert path in first_line(caught.value)
    assert any(word in first_line(caught.value) for word in ("correct the source's path", "give .txt"))
    if path in ("empty", "fifo"):
        known = " ".join(caught.value.details)
        assert all(ending in known for ending in (".jsonl", ".arrow", ".warc", ".xml", ".7z", ".zst"))


def test_what_lies_beside_a_dump_is_no_text(tmp_path):
    beside = ("x-pages-articles-multistream-index.txt.bz2", "x-pages-articles-multistream-index12.txt-p1p9.bz2")
    for name in (*beside, "x-md5sums.txt", "x-pages-articles-multistream.xml.bz2"):
        (tmp_path / name).write_bytes(b"x")
    for path in (str(tmp_path), str(tmp_path / "x-*")):
        found = find_files(path, tmp_path)
        assert [file.name for file in found.files] == ["x-pages-articles-multistream.xml.bz2"]
        assert {skipped.name: skipped.reason for skipped in found.skipped} == {
            **dict.fromkeys(beside, "index of a MediaWiki dump"),
            "x-md5sums.txt": "list of checksums",
        }
    assert len(find_files(str(tmp_path), tmp_path, include=("*index*",)).files) == 2
    assert len(find_files(str(tmp_path / beside[0]), tmp_path).files) == 1
