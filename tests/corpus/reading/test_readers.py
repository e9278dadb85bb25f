"""A file of any kind gives documents and rejections, never an exception."""

import bz2
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.corpus.documents import Document
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig


def read(path, **options):
    reading = Reading(RawFile(path.name, path), SourceConfig(name="s", path="s", **options), path.parent)
    return reading, list(reading)


def only(tmp_path, data, name="a.txt", **options):
    (tmp_path / name).write_bytes(data)
    return read(tmp_path / name, **options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_their_mark(tmp_path, encoding):
    _, (document,) = only(tmp_path, "Grüße, 世界\n".encode(encoding))
    assert document == Document("a.txt:1", "Grüße, 世界\n", "s", {})


def test_damaged_utf16_is_rejected(tmp_path):
    _, (record,) = only(tmp_path, b"\xff\xfe" + "abc".encode("utf-16-le") + b"\x00\xd8")
    assert record.reason == "not UTF-16-LE text"
    assert "invalid at byte 8" in record.sample


def test_xml_is_refused_in_any_encoding(tmp_path):
    for encoding in ("utf-8", "utf-16", "utf-16-le"):
        _, (record,) = only(tmp_path, '<?xml version="1.0"?>\n<feed><title>news</title></feed>\n'.encode(encoding))
        assert record.reason == "XML is not read but for MediaWiki dumps"


def test_json_lines_in_gzip_by_content_not_by_name(tmp_path):
    lines = b"".join(
        json.dumps({"id": i, "text": f"text {i}", "score": float("nan")}).encode() + b"\n" for i in range(3)
    )
    reading, documents = only(tmp_path, gzip.compress(lines), "misnamed.txt", metadata_fields=("score",))
    assert str(reading.detected) == "JSON lines in gzip"
    assert [document.id for document in documents] == ["misnamed.txt:1", "misnamed.txt:2", "misnamed.txt:3"]
    assert [document.metadata for document in documents] == [{"id": 0}, {"id": 1}, {"id": 2}]  # NaN is no JSON


def test_the_index_of_a_dump_is_text_only_when_asked_for(tmp_path):
    data = bz2.compress(b"597:10:AccessibleComputing\n597:12:Anarchism: a history\n52004:290:A\n")
    _, (record,) = only(tmp_path, data, "index.txt.bz2")
    assert (record.reason, "format: text" in record.sample) == ("index of a MediaWiki dump", True)
    assert isinstance(only(tmp_path, data, "index.txt.bz2", format="text")[1][0], Document)
    for text in (b"12:30:45 the train left\n12:50:11 it came\n", b"597:10:A\n23:11:B\n", b"597:10:A\nand words\n"):
        assert isinstance(only(tmp_path, text)[1][0], Document)


def test_nothing_of_a_cut_file_is_used(tmp_path):
    lines = b"".join(b'{"text": "text %d"}\n' % i for i in range(2000))
    reading, records = only(tmp_path, gzip.compress(lines)[:-6], "a.jsonl.gz")
    assert reading.detected is None
    assert [record.reason for record in records] == ["truncated gzip"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"id": 1}, "no field 'text'"),
        ({"text": None}, "text is not a string"),
        ({"text": 12}, "text is not a string"),
        ({"text": " \n"}, "empty text"),
        ({"text": "bad \ud800 half"}, "lone surrogate (no character)"),
        ({"text": "x" * 1500}, "longer than max_document_bytes"),
    ],
)
def test_records_without_a_usable_text(tmp_path, line, reason):
    data = json.dumps(line).encode() + b'\n{"text": "good"}\n'
    _, (bad, good) = only(tmp_path, data, "a.jsonl", max_document_bytes=1024)
    assert (bad.reason, bad.number) == (reason, 1)
    assert good.text == "good"


def test_unreadable_files_are_rejected_but_a_full_disk_is_not_their_fault(tmp_path, monkeypatch):
    _, (record,) = read(tmp_path / "gone.txt")
    assert record.reason == "not readable"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("groundup.corpus.reading.compressed.spool", full)
    with pytest.raises(OSError, match="No space"):
        read(tmp_path / "a.txt.gz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)),
    st.sampled_from(
        [
            b"",
            b"{",
            b"[{",
            b'{"text": "a"}\n',
            b"text,id\n",
            b"PAR1",
            b"\x1f\x8b\x08",
            b"\xff\xfe",
            b"BZh91AY",
            b"<mediawiki><page>",
            b"<?xml version='1.0' encoding='gb18030'?><mediawiki>",
        ]
    ),
    st.sampled_from(["a.txt", "a.jsonl", "a.json", "a.csv", "a.parquet", "a.xml"]),
)
def test_no_bytes_make_a_reader_raise(tmp_path, data, start, name):
    _, records = only(tmp_path, start + data, name)
    assert all(isinstance(record, Document | Rejected) for record in records)
    for record in records:
        if isinstance(record, Document):
            assert record.text.encode()
