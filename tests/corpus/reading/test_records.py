"""A row becomes a document by field or by template, or is rejected with what is missing."""

from datetime import date, datetime

import pytest
from pydantic import ValidationError

from groundup.corpus.documents import Document
from groundup.corpus.reading.records import Rejected, Row, needed_fields, to_document
from groundup.corpus.reading.sources import SourceConfig

ROW = {"title": "A title", "body": "Words.", "meta": {"author": "Ann", "year": 1901}, "note": None, "tags": ["x"]}


def made(template, values=ROW, **options):
    return to_document(Row(3, values), SourceConfig(name="s", path="a", text_template=template, **options), "a.jsonl")


def test_a_text_of_several_fields():
    document = made("{title}\n\n{body}", metadata_fields=("title",))
    assert document == Document("a.jsonl:3", "A title\n\nWords.", "s", {"title": "A title"})
    assert made("{meta.author} ({meta.year})").text == "Ann (1901)"
    assert made("{{{title}}} {note}|").text == "{A title} |"
    assert made("{note}{body}").text == "Words."
    assert made("{a.b}", {"a.b": "by its whole name"}).text == "by its whole name"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{none} {body}", "no field 'none'"),
        ("{meta.none}", "no field 'meta.none'"),
        ("{title.x}", "no field 'title.x'"),
        ("{tags}", "field 'tags' is not a text"),
        ("{meta}", "field 'meta' is not a text"),
        ("heading: {note}", "empty text"),
    ],
)
def test_what_is_missing_is_said(template, reason):
    rejected = made(template)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.number) == (reason, 3)
    assert not reason.startswith("no field") or rejected.sample.endswith("correct text_template")


def test_fields_that_say_code_are_only_names():
    values = {"title": "{body} {0.__class__}", "body": "x"}
    assert made("{title}", values).text == "{body} {0.__class__}"
    assert made("{title.__class__}", values).reason == "no field 'title.__class__'"


@pytest.mark.parametrize("template", ["no fields", "{}", "{a", "a}", "{a}{"])
def test_templates_that_are_none(template):
    with pytest.raises(ValidationError, match="fields in braces"):
        SourceConfig(name="s", path="a", text_template=template)


def test_a_field_inside_a_field():
    values = {"meta": {"body": {"text": "deep"}, "by": "Ann"}, "a.b": "by its whole name", "gone": None}

    def taken(field):
        source = SourceConfig(name="s", path="a", text_field=field, metadata_fields=("meta.by",))
        return to_document(Row(1, values), source, "a.jsonl")

    assert (taken("meta.body.text").text, taken("a.b").text) == ("deep", "by its whole name")
    assert taken("a.b").metadata == {"meta.by": "Ann"}
    assert taken("meta.none").reason == "no field 'meta.none'"
    assert taken("gone.text").reason == "text is not a string"


def test_bytes_and_dates_of_other_writers():
    values = {"text": b"caf\xc3\xa9", "id": datetime(2020, 1, 2, 3), "day": date(2020, 1, 2)}
    source = SourceConfig(name="s", path="a", metadata_fields=("day",))
    document = to_document(Row(1, values), source, "a.parquet")
    assert document.text == "café"
    assert document.metadata == {"id": "2020-01-02T03:00:00", "day": "2020-01-02"}
    assert to_document(Row(1, {"text": b"\xff"}), source, "a.parquet").reason == "not UTF-8 text"


def test_needed_fields_are_the_outer_ones():
    source = SourceConfig(name="s", path="a", text_template="{meta.author}: {body} {meta.year}")
    assert needed_fields(source) == ("meta", "body")
    assert needed_fields(SourceConfig(name="s", path="a")) == ("text",)


def test_members_of_archives_are_in_the_id():
    row = Row(2, {"text": "words"}, member="news/b.jsonl")
    assert to_document(row, SourceConfig(name="s", path="a"), "a.tar").id == "a.tar/news/b.jsonl:2"
