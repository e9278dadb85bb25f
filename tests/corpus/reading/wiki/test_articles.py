"""A dump becomes documents with their origin; every other page is counted by its reason; hostile XML costs itself."""

import bz2
import gzip
import lzma
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from groundup.corpus.documents import Document
from groundup.corpus.reading.readers import Rejected
from tests.corpus.languages import TEXTS
from tests.corpus.reading.test_archives import PACK
from tests.corpus.reading.wiki.made import FOOTER, HEADER, dump, multistream, page, read

PACKERS = [gzip.compress, bz2.compress, lzma.compress, lz4.frame.compress, zstandard.ZstdCompressor().compress]
GOOD = [page(i, f"'''Seite {i}''' ist [[gut]].") for i in (1, 2)]


def only(tmp_path, data, name="dump.xml", **options):
    (tmp_path / name).write_bytes(data)
    return read(tmp_path / name, **options)


def reasons(records):
    return [record.reason if isinstance(record, Rejected) else record.text for record in records]


def test_articles_come_with_their_origin(tmp_path):
    reading, (document,) = only(tmp_path, dump(page(7, "'''Über''' [[x|Tee]].[[Sachgruppe:A]]", "Tee & Kuchen")))
    assert str(reading.detected) == "MediaWiki dump"
    about = {"id": 7, "title": "Tee & Kuchen", "namespace": 0, "revision": 1007, "timestamp": "2026-01-02T03:04:05Z"}
    assert document == Document("dump.xml:1", "Über Tee.", "s", {**about, "language": "de", "wiki": "testwiki"})


def test_every_other_page_has_its_reason(tmp_path):
    pages = [
        GOOD[0],
        page(3, "#REDIRECT [[A]]", more='    <redirect title="A" />\n'),
        page(4, "#WEITERLEITUNG [[A]]"),
        page(5, "Rede", "Diskussion:A", 1),
        page(6, ""),
        page(8, "{{Nur|eine=Box}}"),
        page(9, "* [[A]]\n{{Begriffsklärung}}"),
        page(10, "{}", model="json"),
        GOOD[1],
    ]
    _, records = only(tmp_path, dump(*pages))
    assert reasons(records) == [
        "Seite 1 ist gut.",
        "redirect",
        "redirect",
        "page outside wiki.namespaces",
        "empty page",
        "page without text but markup",
        "disambiguation page",
        "page that is no wikitext",
        "Seite 2 ist gut.",
    ]
    assert [record.number for record in records if isinstance(record, Rejected)] == [2, 3, 4, 5, 6, 7, 8]
    assert records[1].sample == "Page 3"
    _, records = only(tmp_path, dump(*pages), wiki={"namespaces": (1,), "disambiguation": "keep"})
    assert [record.text for record in records if isinstance(record, Document)] == ["Rede"]


def test_redirects_in_words_that_nobody_listed(tmp_path):
    texts = [
        "#TILVÍSUN [[A]]",
        "#PREUSMERITEV: [[A#b]]\n",
        "#Not [[A]]",
        "#FIRST [[A]] and more",
        "# [[A]]",
        "#X [[A]]",
    ]
    _, records = only(tmp_path, dump(*(page(i, text) for i, text in enumerate(texts, 1))))
    assert reasons(records)[:2] == ["redirect", "redirect"]
    assert all(isinstance(record, Document) for record in records[2:])


def test_namespaces_of_old_dumps_are_read_from_the_title(tmp_path):
    old = [
        page(1, "A", "Diskussion:X", 1).replace("    <ns>1</ns>\n", ""),
        page(2, "B", "C: D").replace("    <ns>0</ns>\n", ""),
    ]
    assert reasons(only(tmp_path, dump(*old))[1]) == ["page outside wiki.namespaces", "B"]


@pytest.mark.parametrize("pack", PACKERS)
def test_packed_dumps_under_any_name(tmp_path, pack):
    _, records = only(tmp_path, pack(dump(*GOOD)), "wiki.txt")
    assert reasons(records) == ["Seite 1 ist gut.", "Seite 2 ist gut."]


def test_small_multistream(tmp_path):
    reading, records = only(tmp_path, multistream([page(i, f"Text {i}") for i in range(20)], 3), "dump.xml.bz2")
    assert str(reading.detected) == "MediaWiki dump in bz2"
    assert reasons(records) == [f"Text {i}" for i in range(20)]


@pytest.mark.parametrize("kind", PACK)
def test_dumps_in_archives_beside_other_files(tmp_path, kind):
    members = {"a.xml": dump(*GOOD), "b.jsonl": b'{"text": "no page"}\n', "c.xml.xz": lzma.compress(dump(GOOD[1]))}
    reading, records = only(tmp_path, PACK[kind](members), f"wiki.{kind}")
    assert reasons(records) == ["Seite 1 ist gut.", "Seite 2 ist gut.", "no page", "Seite 2 ist gut."]
    assert records[1].id == f"wiki.{kind}/a.xml:2"
    assert records[1].metadata["title"] == "Page 2"
    assert str(reading.detected) == f"{kind}: 1 x JSON lines, 1 x MediaWiki dump, 1 x MediaWiki dump in xz"


def test_a_refused_dump_in_an_archive_costs_itself(tmp_path):
    members = {"a.xml": b"<!DOCTYPE x>" + dump(*GOOD), "b.xml": dump(GOOD[0]), "c.xml": b"<rss></rss>"}
    _, records = only(tmp_path, PACK["zip"](members), "wiki.zip")
    refused = ["XML with a document type", "Seite 1 ist gut.", "XML is not read but for MediaWiki dumps"]
    assert reasons(records) == refused


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "iso-8859-1", "gb18030"])
def test_encodings_by_mark_or_declaration(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n' + dump(page(1, "Größe")).decode()
    _, (document,) = only(tmp_path, text.encode(encoding))
    assert document.text == "Größe"


@pytest.mark.parametrize(
    ("language", "encoding", "shown"),
    [
        ("zh", "gb18030", "GB18030, detected"),
        ("ja", "shift_jis", "Shift-JIS, detected"),
        ("ru", "koi8-r", "KOI8-U, detected"),
        ("en", "utf-16-le", "UTF-16-LE, detected"),
    ],
)
def test_encodings_that_nothing_declares(tmp_path, language, encoding, shown):
    data = dump(page(1, TEXTS[language]), GOOD[0]).decode().encode(encoding, "ignore")
    _, expected = only(tmp_path, data.decode(encoding).encode())
    reading, records = only(tmp_path, data)
    assert reasons(records) == reasons(expected)
    assert len(records) == 2
    assert str(reading.detected) == f"MediaWiki dump ({shown})"


def test_an_encoding_that_the_source_gives(tmp_path):
    data = dump(page(1, "Größe")).decode().encode("latin-1")
    assert reasons(only(tmp_path, data, encoding="latin-1")[1]) == ["Größe"]
    damaged = dump(page(1, "Tür und Tor")).replace(b"T\xc3\xbcr", b"T\xc3r")
    options = {"encoding": "utf-8", "invalid_bytes": "replace"}
    assert reasons(only(tmp_path, damaged, **options)[1]) == ["T\ufffdr und Tor"]
    assert reasons(only(tmp_path, damaged, encoding="utf-8")[1]) == ["page that is not well-formed XML"]


def test_declared_encodings_that_do_not_hold(tmp_path):
    data = b'<?xml version="1.0" encoding="%s"?>' + dump(*GOOD)
    for name, reason in ((b"klingon", "unknown encoding"), (b"hex", "unknown encoding"), (b"ascii", None)):
        first = reasons(only(tmp_path, data % name)[1])[0]
        assert first == (reason or "Seite 1 ist gut.")
    declared = b'<?xml version="1.0" encoding="shift_jis"?>'
    assert reasons(only(tmp_path, declared + dump(page(1, "ÿ")))[1]) == ["ÿ"]
    no_character = dump(page(1, "x")).replace(b"x</text>", b"\x81</text>")
    assert reasons(only(tmp_path, declared + no_character)[1]) == ["not Shift-JIS text"]


def test_the_text_is_the_sources_field_and_templates_see_the_title(tmp_path):
    _, (document,) = only(tmp_path, dump(GOOD[0]), text_field="content", text_template="{title}: {content}")
    assert document.text == "Page 1: Seite 1 ist gut."
    assert (document.metadata["id"], document.metadata["wiki"]) == (1, "testwiki")


@pytest.mark.parametrize(
    "start",
    [
        '<?xml version="1.0"?><!DOCTYPE mediawiki [<!ENTITY a "b">]>',
        "<!DOCTYPE mediawiki [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>\n",
        "<!-- c --><!DOCTYPE x>",
        "<!DOCTYPE mediawiki [<!ENTITY a '<page>'>]>",
    ],
)
def test_document_types_are_refused(tmp_path, start):
    _, records = only(tmp_path, start.encode() + dump(page(1, "&a;").replace("&amp;", "&"), GOOD[0]))
    assert reasons(records) == ["XML with a document type"]
    inside = HEADER.replace("<siteinfo>", "<siteinfo><!DOCTYPE x>") + GOOD[0] + FOOTER
    assert reasons(only(tmp_path, inside.encode())[1]) == ["damaged header of a MediaWiki dump", "Seite 1 ist gut."]


def test_a_broken_page_costs_itself_only(tmp_path):
    broken = [
        page(3, "x").replace("<text", "<txet"),
        page(4, "x").replace("x</text>", "&undefined;</text>"),
        page(5, "x").replace("x</text>", "\x00</text>"),
        page(6, "x").replace("x</text>", "<b><b>x</b></b></text>"),
        page(7, "x").replace("</title>", "</title>" + "<a>" * 30 + "</a>" * 30),
        page(8, "x").replace("x</text>", "<![CDATA[</page>]]></text>"),
    ]
    _, records = only(tmp_path, dump(GOOD[0], *broken, GOOD[1]))
    assert reasons(records)[0] == "Seite 1 ist gut."
    assert reasons(records)[-1] == "Seite 2 ist gut."
    found = reasons(records)[1:-1]
    assert found[:5] == ["page that is not well-formed XML"] * 3 + ["element inside <text>", "page nested too deeply"]
    assert set(found[5:]) == {"page that is not well-formed XML", "XML between pages"}


def test_truncation_is_named(tmp_path):
    whole = dump(*GOOD)
    assert reasons(only(tmp_path, whole[: whole.rindex(b"</page>")])[1]) == ["Seite 1 ist gut.", "truncated XML"]
    _, records = only(tmp_path, whole.replace(FOOTER.encode(), b""))
    assert reasons(records) == ["Seite 1 ist gut.", "Seite 2 ist gut.", "truncated XML"]
    assert reasons(only(tmp_path, HEADER.encode()[:200])[1]) == ["truncated XML"]


def test_a_part_of_a_dump_without_its_root_is_read(tmp_path):
    assert reasons(only(tmp_path, "".join(GOOD).encode())[1]) == ["Seite 1 ist gut.", "Seite 2 ist gut."]


def test_of_a_history_the_last_revision_is_taken_in_little_memory(tmp_path):
    revision = "<revision><id>{0}</id><text>" + "alt " * 200_000 + "{0}</text></revision>"
    history = "".join(revision.format(i) for i in range(9)) + "<revision><id>9</id><text>neu</text></revision>"
    data = dump(f"<page><title>H</title><ns>0</ns><id>1</id>{history}</page>\n", GOOD[1])
    _, records = only(tmp_path, data, max_document_bytes=1 << 20)
    assert reasons(records) == ["neu", "Seite 2 ist gut."]
    assert records[0].metadata["revision"] == 9


def test_pages_that_are_too_long_are_counted(tmp_path):
    _, records = only(tmp_path, dump(GOOD[0], page(3, "x" * (6 << 20)), GOOD[1]), max_document_bytes=1 << 20)
    assert reasons(records) == ["Seite 1 ist gut.", "longer than max_document_bytes", "Seite 2 ist gut."]


def test_other_xml_is_refused(tmp_path):
    for data in (b'<?xml version="1.0"?><rss></rss>', b"<rss></rss>"):
        assert reasons(only(tmp_path, data)[1]) == ["XML is not read but for MediaWiki dumps"]
    assert reasons(only(tmp_path, b"words", format="mediawiki")[1]) == ["not a MediaWiki dump"]
    assert only(tmp_path, dump(*GOOD), format="text")[1][0].text.startswith("<mediawiki")


TAGS = ["<page>", "</page>", "<page ", "<pages>", "<text>", "</text>", "<revision>", "<!--", "-->", "<siteinfo>"]
OTHERS = ["<![CDATA[", "]]>", "<!DOCTYPE a>", "&a;", "\x00", "x", "<namespace key='x'>", "</mediawiki>", "\n"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(st.sampled_from([*GOOD, HEADER, FOOTER, *TAGS, *OTHERS]), max_size=12))
@example(["<page ", "\x00"])
def test_good_pages_come_out_whatever_stands_around_them(tmp_path, parts):
    _, records = only(tmp_path, ("<mediawiki>" + "".join(parts)).encode())
    assert all(isinstance(record, Document | Rejected) for record in records)
    refused = reasons(records) == ["XML with a document type"]
    found = sorted(record.text for record in records if isinstance(record, Document))
    assert refused or found == sorted(f"Seite {1 + GOOD.index(part)} ist gut." for part in parts if part in GOOD)


def test_hostile_files(tmp_path: Path):
    """The hostile corpus's wiki files, made anew: nested elements, wikitext bombs, titles that are paths or markup."""
    deep = page(1, "x").replace("x</text>", "<x>" * 100_000 + "</x>" * 100_000 + "</text>")
    assert reasons(only(tmp_path, dump(deep, GOOD[1]))[1]) == ["element inside <text>", "Seite 2 ist gut."]
    titles = ["<script>alert(1)</script>", "../../etc/x", "T" * 5000, "\u202eevil", "=1+1", "Dup", "Dup"]
    _, records = only(tmp_path, dump(*(page(i, "Text.", title) for i, title in enumerate(titles))))
    assert [record.metadata["title"] for record in records] == [title[:1000] for title in titles]
    assert len({record.id for record in records}) == len(titles)
