"""Members of archives come out whole or with a reason; names, links and bombs do no harm."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import py7zr
import pytest

from groundup.corpus.reading import archive_members
from groundup.corpus.reading.archives import members
from groundup.corpus.reading.compressed import DamagedFile

FILES = {"a.txt": b"first text\n", "news/b.jsonl": b'{"text": "second"}\n' * 50, "c.txt": b""}


def tar(entries, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(entries, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def seven(entries, **options):
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(data, name)
    return buffer.getvalue()


PACK = {"tar": tar, "zip": zipped, "7z": seven}


def everything(_name):
    return ""


def read(kind, data, folder, choose=everything, limit_bytes=1 << 30):
    return [
        (member.name, member.handle.read() if member.handle else member.reason)
        for member in members(kind, io.BytesIO(data), choose, folder, limit_bytes)
    ]


@pytest.mark.parametrize("kind", PACK)
def test_members_come_out_whole_in_order(kind, tmp_path):
    wanted = {name: data for name, data in FILES.items() if data or kind != "7z"}
    assert [entry for entry in read(kind, PACK[kind](FILES), tmp_path) if entry[0] in wanted] == list(wanted.items())


@pytest.mark.parametrize(
    ("encoding", "name"), [("gbk", "第一章 老城的故事/文本和说明.txt"), ("utf-8", "Größe.txt"), ("cp437", "Größe.txt")]
)
def test_zip_names_of_other_machines(encoding, name, tmp_path):
    raw = name.encode(encoding)
    data = zipped({"x" * len(raw): b"text", "plain.txt": b"more"}).replace(b"x" * len(raw), raw)
    assert read("zip", data, tmp_path) == [(name, b"text"), ("plain.txt", b"more")]


@pytest.mark.parametrize("kind", PACK)
def test_only_what_is_chosen_is_unpacked(kind, tmp_path):
    result = read(kind, PACK[kind](FILES), tmp_path, lambda name: "" if name == "a.txt" else "not wanted")
    assert ("a.txt", FILES["a.txt"]) in result
    assert ("news/b.jsonl", "not wanted") in result


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_of_zip(compression, tmp_path):
    assert dict(read("zip", zipped(FILES, compression), tmp_path)) == FILES


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:/out.txt", "..\\out.txt"])
def test_names_outside_are_refused_and_the_others_read(kind, name, tmp_path):
    result = dict(read(kind, PACK[kind]({name: b"evil", "good.txt": b"good"}), tmp_path))
    assert result.pop("good.txt") == b"good"
    assert list(result.values()) == ["archive member with a name outside the archive"]
    assert list(tmp_path.iterdir()) == []


def test_links_devices_and_pipes_are_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"special-{kind.decode()}.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"good"))
    result = read("tar", buffer.getvalue(), tmp_path)
    assert [content for _, content in result[:4]] == [
        "archive member that is no file (link)",
        "archive member that is no file (link)",
        "archive member that is no file (device, pipe or sparse file)",
        "archive member that is no file (device, pipe or sparse file)",
    ]
    assert result[4] == ("good.txt", b"good")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link.txt")
    info.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert read("zip", buffer.getvalue(), tmp_path) == [("link.txt", "archive member that is no file (link)")]


@pytest.mark.parametrize("kind", PACK)
def test_a_flipped_bit_or_a_cut_is_found(kind, tmp_path):
    good = PACK[kind]({"a.txt": os.urandom(3000), "b.txt": b"tail" * 500})
    with pytest.raises(DamagedFile, match=rf"(damaged|truncated) {kind}"):
        read(kind, good[:1000], tmp_path)
    if kind == "tar":  # it has checksums for its headers only
        return
    flipped = bytearray(good)
    flipped[500] ^= 1
    try:
        result = dict(read(kind, bytes(flipped), tmp_path))
    except DamagedFile:
        assert kind == "7z"
    else:
        assert result == {"a.txt": "archive member with a wrong checksum", "b.txt": b"tail" * 500}


@pytest.mark.parametrize("kind", PACK)
def test_bombs_are_stopped(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_members, "RATIO_FREE_BYTES", 1 << 20)
    with pytest.raises(DamagedFile, match="expands too far"):
        read(kind, PACK[kind]({"a.txt": bytes(8 << 20)}), tmp_path, limit_bytes=6 << 20)
    if kind != "tar":
        with pytest.raises(DamagedFile, match=r"expands too far.*bomb"):
            read(kind, PACK[kind]({"a.txt": bytes(8 << 20)}), tmp_path)


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    data = bytearray(tar({"a.txt": b"one", "b.txt": b"two", "c.txt": b"three"}))
    data[1024 + 5] ^= 1
    seen = []
    with pytest.raises(DamagedFile, match="damaged tar archive: no header at byte 1024"):
        seen.extend(member.name for member in members("tar", io.BytesIO(data), everything, tmp_path, 1 << 30))
    with pytest.raises(DamagedFile, match="truncated tar: its end mark is missing"):
        read("tar", tar({"a.txt": b"one"})[:1024], tmp_path)


def test_encrypted_members_are_refused(tmp_path):
    with pytest.raises(DamagedFile, match="encrypted"):
        read("7z", seven({"a.txt": b"secret"}, password="x"), tmp_path)
    data = bytearray(zipped({"a.txt": b"secret"}))
    for header in (b"PK\x03\x04", b"PK\x01\x02"):
        place = data.index(header) + (6 if header[2] == 3 else 8)
        data[place] |= 1
    assert read("zip", bytes(data), tmp_path) == [("a.txt", "encrypted archive member")]


def test_equal_names_are_told_apart(tmp_path):
    first, second = tar({"a.txt": b"one"})[:1024], tar({"a.txt": b"two"})
    assert read("tar", first + second, tmp_path) == [("a.txt", b"one"), ("a.txt#2", b"two")]


def test_names_that_begin_with_a_dot_and_a_slash(tmp_path):
    assert read("tar", tar({"./news/a.txt": b"x"}), tmp_path) == [("news/a.txt", b"x")]


def test_odd_names_are_shown_escaped(tmp_path):
    ((name, _),) = read("tar", tar({"new\nline\x1b.txt": b"x"}), tmp_path)
    assert name == "new\\nline\\x1b.txt"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_is_no_archive_raises_nothing_else(pack, tmp_path):
    for kind in PACK:
        for data in (b"", b"x" * 2000, pack(b"text"), PACK[kind](FILES)[: 40 + len(pack(b""))]):
            try:
                read(kind, data, tmp_path)
            except DamagedFile as error:
                assert kind in error.reason or "empty" in error.reason
