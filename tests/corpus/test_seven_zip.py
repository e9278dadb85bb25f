"""The one file of a 7z archive is read whole or not at all; without py7zr a line says what to do."""

import io
import sys

import pytest

from groundup.corpus.compressed import DamagedFile
from groundup.corpus.seven_zip import spool_7z
from tests.corpus.wiki.made import dump, page, read


def archive(files):
    py7zr = pytest.importorskip("py7zr")
    target = io.BytesIO()
    with py7zr.SevenZipFile(target, "w") as writer:
        for name, data in files.items():
            writer.writestr(data, name)
    return target.getvalue()


def test_a_dump_in_7z(tmp_path):
    (tmp_path / "dump.xml.7z").write_bytes(archive({"dump.xml": dump(page(1, "Eins."), page(2, "Zwei."))}))
    reading, records = read(tmp_path / "dump.xml.7z")
    assert str(reading.detected) == "MediaWiki dump in 7z"
    assert [record.text for record in records] == ["Eins.", "Zwei."]


def test_limits_and_several_files(tmp_path):
    with pytest.raises(DamagedFile, match="max_expanded_bytes"):
        spool_7z(io.BytesIO(archive({"a": b"x" * 5000})), tmp_path, 4000)
    with pytest.raises(DamagedFile, match="several files"):
        spool_7z(io.BytesIO(archive({"a": b"x", "b": b"y"})), tmp_path, 4000)


def test_damage_is_named_wherever_it_is(tmp_path):
    data = archive({"a": bytes(range(256)) * 40})
    for place in range(0, len(data), 11):
        broken = bytearray(data)
        broken[place] ^= 0x55
        try:
            with spool_7z(io.BytesIO(bytes(broken)), tmp_path, 1 << 20) as plain:
                assert plain.read() == bytes(range(256)) * 40
        except DamagedFile as error:
            assert error.reason
    for cut in (40, len(data) // 2, len(data) - 3):
        with pytest.raises(DamagedFile):
            spool_7z(io.BytesIO(data[:cut]), tmp_path, 1 << 20)


def test_without_py7zr_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py7zr", None)
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(40))
    _, (record,) = read(tmp_path / "a.7z")
    assert record.reason == "7z needs py7zr"
    assert "groundup[7z]" in record.sample
