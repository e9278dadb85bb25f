"""Sections of a large file of JSON lines give the same records as the file, with the same numbers."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.documents import Document
from groundup.corpus.reading import line_sections
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.line_sections import count_lines, in_line_sections, numbered
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.sources import SourceConfig

SOURCE = SourceConfig(name="s", path="x", max_document_bytes=1 << 10)
LINES = st.sampled_from(
    [b"", b" ", b'{"text": "a"}', b'{"text": "\\u00e9 b"}', b"broken", b'{"n": 1}', b'{"text": "' + b"x" * 3000 + b'"}']
)


def records(file, folder):
    return [
        (record.id, record.text) if isinstance(record, Document) else (record.number, record.reason)
        for record in Reading(file, SOURCE, folder)
    ]


@settings(deadline=None, max_examples=80)
@given(st.lists(LINES, max_size=30), st.booleans(), st.sampled_from([b"\n", b"\r\n"]), st.integers(8, 200))
def test_sections_give_the_records_of_the_file(tmp_path_factory, lines, ended, end, size):
    folder = tmp_path_factory.mktemp("lines")
    data = b'\xef\xbb\xbf{"text": "first"}' + end + end.join(lines) + (end if ended else b"")
    (folder / "a.jsonl").write_bytes(data)
    file = RawFile("a.jsonl", folder / "a.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_sections, "SECTION_BYTES", size)
        sections = in_line_sections(file, SOURCE)
    if len(data) >= 2 * size:
        assert all(section.lines for section in sections)
    sections = numbered(sections, [count_lines(section) for section in sections])
    assert [record for section in sections for record in records(section, folder)] == records(file, folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 50, 0)),
        ("a.json", json.dumps([{"text": "a"}] * 50).encode()),
        ("a.txt", b"text\n" * 50),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16") * 50),
        ("a.csv", b"text\n" + b"a\n" * 50),
        ("empty.jsonl", b""),
    ],
)
def test_other_files_stay_whole(tmp_path, monkeypatch, name, data):
    monkeypatch.setattr(line_sections, "SECTION_BYTES", 16)
    (tmp_path / name).write_bytes(data)
    file = RawFile(name, tmp_path / name)
    assert in_line_sections(file, SOURCE) == [file]
    assert in_line_sections(RawFile("no", tmp_path / "no"), SOURCE) == [RawFile("no", tmp_path / "no")]
