"""Content decides what a file is; the name only where content cannot."""

import pytest

from groundup.corpus.compressed import DamagedFile
from groundup.corpus.detect import Detected, byte_order_mark, compression_of, format_of, suffix_of

OBJECT = b'{"text": "a"}\n'


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (b"Plain words.\n", "a.txt", "text"),
        (b"# Title\n", "a.md", "text"),
        (b"[Illustration]\n\nText", "a.txt", "text"),
        (b"{curly} words\n", "a.txt", "text"),
        (OBJECT * 2, "a.txt", "jsonl"),
        (OBJECT * 2, "a.json", "jsonl"),
        (OBJECT, "a.jsonl", "jsonl"),
        (b"{broken\n" + OBJECT, "a.jsonl", "jsonl"),
        (b"[1, 2]\n" + OBJECT, "a.jsonl", "jsonl"),
        (b'[\n  {"text": "a"},\n', "a.jsonl", "json"),
        (b'[{"text": "a"}, {"text": "b"}]', "a.jsonl", "json"),
        (b'{\n  "text": "a"\n}\n', "a.jsonl", "json"),
        (b'{\n  "text": "a"\n}\n', "a.json", "json"),
        (b"id,text\n1,a\n", "a.csv", "csv"),
        (b"PAR1....", "a.txt", "parquet"),
        (b"words", "a.parquet", "text"),
        (b"words", "no-ending", "text"),
    ],
)
def test_format(head, name, expected):
    assert format_of(head, name, "auto") == expected


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty file"),
        (b"a" * 257 + b"ustar\x00", "tar archives are not read: unpack it"),
        (b"PK\x03\x04rest", "zip archives are not read"),
        (b"\xfd7zXZ\x00", "xz is not read: recompress"),
        (b'<?xml version="1.0"?>', "XML is not read"),
        (b"\n<!DOCTYPE HTML>", "HTML is not read"),
        (b"%PDF-1.7", "PDF is not read"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b\x08", "compressed twice"),
        (b"\x7fELF\x02\x01\x01\x00\xe7\xa6", "binary data"),
        (bytes(1000), "binary data"),
        ("no mark".encode("utf-16-le"), "UTF-16 without its mark"),
    ],
)
def test_refused_with_a_reason(head, reason):
    with pytest.raises(DamagedFile, match=reason):
        format_of(head, "a.txt", "auto")


def test_asked_format_wins_but_does_not_lie():
    assert format_of(b"<html> as text", "a.txt", "text") == "text"
    assert format_of(OBJECT * 2, "a.jsonl", "text") == "text"
    with pytest.raises(DamagedFile, match="not a Parquet file"):
        format_of(b"words", "a.txt", "parquet")


def test_a_few_control_characters_do_not_make_binary():
    assert format_of(b"a\x00b" + b"words " * 10, "a.txt", "auto") == "text"


def test_endings_marks_and_description():
    assert suffix_of("A.B.JSONL.gz") == ".jsonl"
    assert suffix_of("README") == ""
    assert suffix_of(".gz") == ".gz"
    assert byte_order_mark(b"\xff\xfe\x00\x00") == ("utf-32-le", 4)
    assert byte_order_mark(b"\xff\xfea\x00") == ("utf-16-le", 2)
    assert byte_order_mark(b"abc") == ("utf-8", 0)
    assert compression_of(b"\x50\x2a\x4d\x18....") == "zstd"  # a skippable frame first
    assert str(Detected("jsonl", "gzip", "utf-16-le")) == "JSON lines (UTF-16-LE) in gzip"
