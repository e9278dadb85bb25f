"""Content decides what a file is; the name only where content cannot."""

import pytest

from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.detect import (
    Detected,
    archive_of,
    compression_of,
    declared_format_of,
    format_of,
    suffix_of,
)
from groundup.corpus.reading.encoding_names import Encoding

OBJECT = b'{"text": "a"}\n'


def format_by_both(head, name, asked="auto"):
    return declared_format_of(head, name, asked) or format_of(head, name, asked)


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
        (b"ARROW1\0\0", "a.txt", "arrow"),
        (b"\xff\xff\xff\xff\x10\x01\0\0", "a.txt", "arrow"),
        (b"WARC/1.0\r\n", "a.txt", "warc"),
        (b"\n<!DOCTYPE HTML>", "a.txt", "html"),
        (b"<!-- saved from --><html lang=de>", "a.txt", "html"),
        (b"<!---->" * 5000 + b"x", "a.txt", "text"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html>', "a.xhtml", "html"),
        (b'<?xml version="1.0"?>\n<!-- a --><mediawiki xml:lang="de">', "a.txt", "mediawiki"),
        (b"<mediawiki>", "a.html", "mediawiki"),
        (b"  <page>\n    <title>", "a.xml", "mediawiki"),
        (b"<html>", "a.xml", "html"),
        (b"words", "a.xml", "text"),
        (b"<div>part of a page</div>", "a.html", "html"),
        (b"<div>part of a page</div>", "a.txt", "text"),
        (b"words", "a.html", "text"),
        (b"words", "a.parquet", "text"),
        (b"words", "no-ending", "text"),
    ],
)
def test_format(head, name, expected):
    assert format_by_both(head, name) == expected


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty file"),
        (b"a" * 257 + b"ustar\x00", "archive inside an archive: unpack it once"),
        (b"Rar!\x1a\x07", "rar archives are not read"),
        (b"FEA1", "Feather version 1 is not read"),
        (b'<?xml version="1.0"?>', "XML is not read"),
        (b"%PDF-1.7", "PDF is not read"),
        (b"{\\rtf1\\ansi Words}", "RTF is not read"),
        (b"%!PS-Adobe-3.0", "PostScript is not read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office programs"),
        (b"\x1f\x9d\x90abc", r"\.Z files are not read: recompress it with gzip"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b\x08", "compressed twice"),
        (b"\x7fELF\x02\x01\x01\x00\xe7\xa6", "binary data"),
        (bytes(1000), "binary data"),
        ("no mark".encode("utf-16-le"), "UTF-16 without its mark"),
    ],
)
def test_refused_with_a_reason(head, reason):
    with pytest.raises(DamagedFile, match=reason):
        format_by_both(head, "a.txt")


@pytest.mark.parametrize(
    ("head", "name", "asked", "reason"),
    [
        (b"<rss></rss>", "a.xml", "auto", "XML is not read but for MediaWiki dumps"),
        (b'\n<?xml version="1.0"?><rss>', "a.html", "auto", "XML is not read but for MediaWiki dumps"),
        (b'<?xml version="1.0"?>', "a.txt", "jsonl", "XML is not read but for MediaWiki dumps"),
        (b"<!DOCTYPE TEI><TEI>", "a.txt", "auto", "XML with a document type"),
        (b"<!-- <mediawiki> --><!doctype mediawiki><mediawiki>", "a.xml", "mediawiki", "XML with a document type"),
        (b"<html>", "a.xml", "mediawiki", "not a MediaWiki dump"),
    ],
)
def test_xml_that_is_no_dump_is_refused(head, name, asked, reason):
    with pytest.raises(DamagedFile, match=reason):
        format_by_both(head, name, asked)


def test_asked_format_wins_but_does_not_lie():
    assert format_by_both(b"<html> as text", "a.txt", "text") == "text"
    assert format_by_both(b'<?xml version="1.0"?><mediawiki>', "a.xml", "text") == "text"
    assert format_of(OBJECT * 2, "a.jsonl", "text") == "text"
    with pytest.raises(DamagedFile, match="not a Parquet file"):
        format_by_both(b"words", "a.txt", "parquet")


def test_a_few_control_characters_do_not_make_binary():
    assert format_of(b"a\x00b" + b"words " * 10, "a.txt", "auto") == "text"


def test_endings_marks_and_description():
    assert suffix_of("A.B.JSONL.gz") == ".jsonl"
    assert suffix_of("README") == ""
    assert suffix_of(".gz") == ".gz"
    assert (archive_of(b"PK\x03\x04"), archive_of(b"7z\xbc\xaf\x27\x1c"), archive_of(b"words")) == ("zip", "7z", "")
    assert compression_of(b"\x50\x2a\x4d\x18....") == "zstd"  # a skippable frame first
    assert str(Detected("jsonl", "gzip", Encoding("UTF-16-LE", "mark"))) == "JSON lines (UTF-16-LE) in gzip"
    assert str(Detected("text", "", Encoding("GB18030", "detected"))) == "plain text (GB18030, detected)"


def test_an_old_tar_is_known_by_its_checksum():
    block = bytearray(b"name.txt".ljust(100, b"\0") + b"0000644\0" * 3 + b"00000000005\0" * 2 + b" " * 8 + bytes(356))
    block[148:156] = b"%06o\0 " % sum(block)
    assert archive_of(bytes(block)) == "tar"
    block[0] += 1
    assert archive_of(bytes(block)) == ""
