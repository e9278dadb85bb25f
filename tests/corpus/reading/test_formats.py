"""Bytes become rows or counted rejections, whatever the bytes are."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.reading import json_records
from groundup.corpus.reading.formats import READERS, Rejected
from groundup.corpus.reading.sources import SourceConfig


def read(kind, data, **options):
    source = SourceConfig(name="a", path="a", **options)
    return list(READERS[kind](io.BytesIO(data), source))


def reasons(rows):
    return [row.reason if isinstance(row, Rejected) else "ok" for row in rows]


@given(st.text(alphabet="ab é床\n ", max_size=6000))
def test_pieces_of_a_long_text_are_the_text(text):
    data = text.encode()
    pieces = read("text", data, max_document_bytes=1024)
    assert "".join(piece.values["text"] for piece in pieces) == text
    assert all(len(piece.values["text"].encode()) <= 1024 for piece in pieces)
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))


def test_long_text_is_cut_at_paragraphs():
    paragraph = "word " * 60 + "\n\n"
    pieces = read("text", (paragraph * 20).encode(), max_document_bytes=1024)
    assert len(pieces) > 1
    assert all(piece.values["text"].endswith("\n\n") for piece in pieces)


@pytest.mark.parametrize("before", [0, 5, json_records.BLOCK_BYTES - 1, json_records.BLOCK_BYTES + 3])
def test_bad_utf8_is_named_by_its_byte(before):
    rows = read("text", b"a" * before + b"\xc3(" + b"tail")
    assert reasons(rows) == ["not UTF-8 text"]
    assert f"byte {before};" in rows[0].sample


def test_bad_json_lines_are_rejected_one_by_one():
    deep = b"[" * 100_000
    lines = [
        b'{"text": "good"}\r',
        b"",
        b'{"text": "cut',
        b"[1]",
        b"null",
        b'{"text": "raw \xe2\x80\xa8 and \xc2\x85 stay"}',
        b"\0" * 4096,
        b"{'text': 'single'}",
        deep,
        b'{"text": "\xff"}',
        b'{"n": ' + b"1" * 5000 + b"}",
        b'{"text": "ends here"',
    ]
    assert reasons(read("jsonl", b"\n".join(lines))) == [
        "ok",
        "not valid JSON",
        "not a JSON object",
        "not a JSON object",
        "ok",
        "a block of NUL bytes",
        "not valid JSON",
        "nested too deeply",
        "not UTF-8 text",
        "not valid JSON",
        "truncated JSON",
    ]
    numbers = [row.number for row in read("jsonl", b"\n".join(lines))]
    assert numbers == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_a_huge_line_is_skipped_in_bounded_memory():
    data = b'{"text": "a"}\n{"text": "' + b"x" * (3 << 20) + b'"}\n{"text": "b"}\n'
    rows = read("jsonl", data, max_document_bytes=2048)
    assert reasons(rows) == ["ok", "longer than max_document_bytes", "ok"]


VALUES = st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3))


@given(
    st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=6),
    st.sampled_from([None, 2]),
    st.integers(1, 40),
    st.booleans(),
)
def test_json_arrays_and_rows_of_objects_come_out_whole(objects, indent, block, as_array):
    texts = [json.dumps(value, indent=indent, ensure_ascii=False) for value in objects]
    data = ("[" + ",\n".join(texts) + "]" if as_array else "\n".join(texts)).encode()
    scanner = json_records._Scanner(1 << 20)
    found = [e for i in range(0, len(data), block) for e in scanner.feed(data[i : i + block])]
    found += scanner.finish()
    assert [json.loads(element) for element, whole in found if whole] == objects
    assert all(whole for _, whole in found)


def test_json_wrapped_cut_and_too_long():
    assert [row.values for row in read("json", b'{"tags": [1]}')] == [{"tags": [1]}]
    assert [row.values for row in read("json", b'{"tags": [{}]}\n{"text": "b"}')] == [{"tags": [{}]}, {"text": "b"}]
    assert [row.values for row in read("json", b'{"data": [{"text": "a"}, {"text": "b"}]}')] == [
        {"text": "a"},
        {"text": "b"},
    ]
    assert [row.values for row in read("json", b'{"of": {"v": 1, "all": [{"n": 1}], "rows": [{"text": "a"}]}}')] == [
        {"text": "a"}
    ]
    assert [row.values for row in read("json", b'{"k1": {"text": "a"}, "k2": {"text": "b"}}')] == [
        {"text": "a"},
        {"text": "b"},
    ]
    assert [row.values for row in read("json", b'{"k1": {"n": 1}, "k2": {"n": 2}}')] == [
        {"k1": {"n": 1}, "k2": {"n": 2}}
    ]
    assert reasons(read("json", b'[{"text": "a"}, 3, {"tags": [1]}, {"text": "b')) == [
        "ok",
        "not a JSON object",
        "ok",
        "truncated JSON",
    ]
    long = json.dumps([{"text": "a"}, {"text": "x" * 5000}, {"text": "b"}]).encode()
    assert reasons(read("json", long, max_document_bytes=1024)) == ["ok", "longer than max_document_bytes", "ok"]


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def test_parquet_rows_and_refusals():
    table = pa.table({"text": [f"row {i}" for i in range(700)], "n": range(700)})
    rows = read("parquet", parquet(table), metadata_fields=("n",))
    assert [row.values["text"] for row in rows] == table["text"].to_pylist()
    assert rows[699].values["n"] == 699
    (row,) = read("parquet", parquet(pa.table({"body": ["a", "b"]})))
    assert (row.reason, row.records) == ("no column 'text'", 2)
    assert "found: body" in row.sample
    (row,) = read("parquet", parquet(pa.table({"text": [["a"], ["b"]]})))
    assert (row.reason, row.records) == ("text column is not a string", 2)
    (row,) = read("parquet", parquet(table)[:-20])
    assert row.reason == "damaged Parquet"


def test_parquet_fields_inside_structs_and_bytes():
    table = pa.table({"meta": [{"body": "a", "by": {"name": "Ann"}}, None], "a.b": ["x", "y"], "raw": [b"a", b"\xff"]})
    rows = read("parquet", parquet(table), text_field="meta.body", metadata_fields=("a.b",))
    assert [set(row.values) for row in rows] == [{"meta", "a.b"}] * 2, "only the columns that are asked for"
    (row,) = read("parquet", parquet(table), text_field="meta.none")
    assert (row.reason, row.records) == ("no field 'meta.none'", 2)
    assert reasons(read("parquet", parquet(table), text_field="raw")) == ["ok", "ok"]
    assert reasons(read("parquet", parquet(table), text_field="meta.by")) == ["text column is not a string"]


def test_a_flipped_bit_in_a_parquet_page_is_found():
    texts = [f"unlike text {i * 7919}" for i in range(200)]
    data = bytearray(
        parquet(pa.table({"text": texts}), use_dictionary=False, compression="NONE", write_page_checksum=True)
    )
    data[data.index(b"unlike text 791900")] ^= 1
    (row,) = read("parquet", bytes(data))
    assert (row.reason, row.records) == ("damaged Parquet", 200)
    assert "CRC" in row.sample
