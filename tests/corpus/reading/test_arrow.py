"""Arrow files in both layouts, whole or cut; only text becomes text."""

import io

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from groundup.corpus.reading.arrow import read_arrow
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.records import Rejected, Row
from groundup.corpus.reading.sources import SourceConfig

TABLE = pa.table({"text": [f"row {i}" for i in range(700)], "n": range(700), "other": ["x"] * 700})


def arrow(table, layout, **options):
    sink = io.BytesIO()
    make = pa.ipc.new_stream if layout == "stream" else pa.ipc.new_file
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=300)
    return sink.getvalue()


def read(data, **options):
    return list(read_arrow(io.BytesIO(data), SourceConfig(name="a", path="a", **options)))


@pytest.mark.parametrize("layout", ["stream", "file"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_rows_of_both_layouts(layout, compression):
    rows = read(arrow(TABLE, layout, compression=compression), metadata_fields=("n",))
    assert rows == [Row(i + 1, {"text": f"row {i}", "n": i}) for i in range(700)]


@pytest.mark.parametrize("layout", ["stream", "file"])
def test_every_cut_is_damage_not_a_crash(layout):
    data = arrow(TABLE, layout)
    for cut in range(1, len(data), 997):
        rows = read(data[:-cut])
        assert all(isinstance(row, Row) for row in rows[:-1])
        if layout == "file" or cut > 200:
            assert isinstance(rows[-1], Rejected)


def test_a_stream_cut_between_its_batches_is_said_to_be_cut():
    first = arrow(TABLE.slice(0, 300), "stream")
    rows = read(first[:-8])
    assert [type(row) for row in rows] == [Row] * 300 + [Rejected]
    assert rows[-1].reason == "truncated Arrow"


def test_offsets_that_lie_are_damage():
    data = bytearray(arrow(TABLE.select(["text"]), "file"))
    place = data.index((5).to_bytes(4, "little") + (10).to_bytes(4, "little"))
    data[place : place + 4] = (1 << 30).to_bytes(4, "little")
    assert read(bytes(data))[-1].reason == "damaged Arrow"


def test_kinds_of_strings_and_what_is_none():
    plain = pa.array(["a", "b"])
    for texts in (plain.cast(pa.large_string()), plain.cast(pa.string_view()), plain.dictionary_encode()):
        assert [row.values["text"] for row in read(arrow(pa.table({"text": texts}), "stream"))] == ["a", "b"]
    (row,) = read(arrow(pa.table({"body": ["a", "b"]}), "stream"))
    assert (row.reason, row.records) == ("no column 'text'", 2)
    (row,) = read(arrow(pa.table({"text": [["a"], ["b"]]}), "file"))
    assert (row.reason, row.records) == ("text column is not a string", 2)


@pytest.mark.parametrize("name", ["a.arrow", "b.feather", "c.data"])
def test_found_by_content_and_mapped_from_disk(tmp_path, name):
    path = tmp_path / name
    if name == "b.feather":
        feather.write_feather(TABLE, path)
    else:
        path.write_bytes(arrow(TABLE, "stream"))
    reading = Reading(RawFile(name, path), SourceConfig(name="a", path="a"), tmp_path)
    assert [document.text for document in reading] == [f"row {i}" for i in range(700)]
    assert str(reading.detected) == "Arrow"
