"""CSV and TSV of all origins: rows come out as they were meant, or are rejected one by one."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.reading.delimited import read_csv
from groundup.corpus.reading.records import Rejected, Row
from groundup.corpus.reading.sources import SourceConfig


def read(data, **options):
    return list(read_csv(io.BytesIO(data), SourceConfig(name="a", path="a", **options)))


def reasons(rows):
    return [row.reason if isinstance(row, Rejected) else "ok" for row in rows]


def texts(data, **options):
    return [row.values["text"] if isinstance(row, Row) else row.reason for row in read(data, **options)]


def test_csv_quotes_wide_fields_and_ragged_rows():
    data = 'id;text\n1;"a\nb; c"\n2\n\n3;d;e\n4;' + "w" * 400_000 + "\n"
    rows = read(data.encode())
    assert reasons(rows) == ["ok", "row with another number of columns", "row with another number of columns", "ok"]
    assert rows[0].values == {"id": "1", "text": "a\nb; c"}
    assert len(rows[3].values["text"]) == 400_000


def test_csv_without_the_column_names_those_it_has():
    (row,) = read(b"id,body\n1,a\n")
    assert row.reason == "no column 'text'"
    assert "found: id, body; set text_field" in row.sample
    (row,) = read(b"id,body\n1,a\n", text_field="body")
    assert row == Row(1, {"id": "1", "body": "a"})


def test_csv_faults_reject_the_row_or_the_rest():
    assert reasons(read(b"text,n\n\xff,1\nb,2\n")) == ["not UTF-8 text", "ok"]
    assert reasons(read(b"\r \ntext\n")) == ["not valid CSV"], "a header with a bare carriage return"
    rows = read(b'text,n\n"never closed,1\nb,2\nc,3\n')
    assert reasons(rows) == ["not valid CSV", "ok", "ok"], "what a quote that nothing closes seems to hold are rows"
    assert "line 2" in rows[0].sample
    assert reasons(read(b'text,n\na,1\n"cut inside\nof a long, long\ntext')) == ["ok", "not valid CSV"]
    assert (
        reasons(read(b"text,n\na,1\n" + b"x" * 5000, max_document_bytes=1024))[-1] == "longer than max_document_bytes"
    )


def test_quotes_are_letters_in_tables_without_quoting():
    lines = ["label\ttext", '1\t" quoted " it begins', '0\t"never closed', '1\tan inch: 5"', '0\tplain "word" here']
    assert texts("\n".join(lines).encode()) == [line.partition("\t")[2] for line in lines[1:]]
    assert texts(b'text\tn\n"two\nlines\tand a tab"\t1\n"b"\t2\n') == ["two\nlines\tand a tab", "b"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"sep=;\r\ntext;n\r\na, b;1\r\n", ["a, b"]),
        (b"text\tn\ra\t1\rb\t2\r", ["a", "b"]),
        (b'text,"a\nheader, of lines"\na,1\n', ["a"]),
        (b'"a, b, c";text\n1;x\n', ["x"]),
        (b"a, b\ttext\n1\tx, y\n2\tz\n", ["x, y", "z"]),
        (b"text,text\na,b\n", ["two columns 'text'"]),
    ],
    ids=["excel", "macintosh", "header of lines", "delimiter in a quoted name", "comma in a name", "twice"],
)
def test_headers_of_all_kinds(data, expected):
    assert texts(data) == expected


def test_tables_without_a_header():
    data = b"a, b\t1\nc\t0\nonly one\n"
    rows = read(data, text_field="#1", metadata_fields=("#2",))
    assert rows[:2] == [Row(1, {"#1": "a, b", "#2": "1"}), Row(2, {"#1": "c", "#2": "0"})]
    assert rows[2].reason == "row with another number of columns"
    assert len(read(data, text_template="{#2}: {#1}")) == 3
    assert reasons(read(data, text_field="#3")) == ["no column '#3'"]
    assert "'#1' if these are no names" in read(data)[0].sample


@given(
    st.lists(st.text(alphabet='ab"\t,;\n é|', min_size=1).filter(str.strip), min_size=1, max_size=6),
    st.sampled_from(",;|"),
)
def test_what_is_written_properly_is_read_as_it_is(fields, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["text", "n"], *([field, str(i)] for i, field in enumerate(fields))])
    assert texts(file.getvalue().encode()) == fields
