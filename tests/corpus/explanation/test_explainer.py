"""What is said of a record is what the corpus did with it, for every way to end and for files of every kind."""

import io
import json
import random
import tarfile

import pytest

from groundup.corpus import Explainer, lines_of, read_documents
from groundup.corpus.documents import read_lines
from groundup.corpus.explanation.listing import LISTING
from groundup.corpus.reading import line_sections
from groundup.corpus.reading.wiki import streams
from groundup.errors import DataError
from tests.corpus.reading.wiki.made import FOOTER, HEADER, page
from tests.corpus.test_prepare import build, corpus, jsonl, report_of, texts

OUTCOMES = {"exact duplicate", "near duplicate", "kept", "rejected", "filtered", "contaminated"}


def tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two sources with records of every fate, in plain files, in an archive, and in several files of one part."""
    folder = tmp_path_factory.mktemp("explain") / "raw"
    (folder / "web").mkdir(parents=True)
    good = texts(30, 1, words=80)
    question = "what is the name of the small river that runs behind the old mill near the village of our parents"
    near = good[3].replace("word1 ", "word2 ", 1) + " more"
    mail = "Write to ann@example.org. " + good[11]
    lines = [*good[:8], good[2], near, good[4].upper(), "short", f"{good[9]} {question} {good[10]}", mail, good[2]]
    broken = b'{"text": "cut\n\n{"text": 7}\n'
    (folder / "web" / "a.jsonl").write_bytes(jsonl(lines) + broken)
    (folder / "web" / "b.txt").write_text(good[12] + "\r\n" + good[13])
    (folder / "web" / "c.txt").write_bytes(b"\xfd\xff\x00\x01" * 50)
    members = {"x/one.jsonl": jsonl([good[5], good[14]]) + b"{", "two.txt": good[15].encode()}
    (folder / "web" / "d.tar").write_bytes(tar(members))
    (folder / "books.jsonl").write_bytes(jsonl([*good[16:30], good[3] + " more"]))
    (folder / "set.jsonl").write_text(json.dumps({"question": question}) + "\n")
    return folder


def config_of(raw, **values):
    sources = [
        {"name": "web", "path": str(raw / "web"), "license": "CC BY 4.0"},
        {"name": "books", "path": str(raw / "books.jsonl")},
    ]
    defaults = {
        "clean": {"min_characters": 10, "personal_data": {}, "repeated_lines": {"across_documents": 2}},
        "decontaminate": [{"name": "exam", "path": str(raw / "set.jsonl")}],
        "augment": [{"kind": "sentence_shuffle", "name": "shuffled", "fraction": 0.2}, NOISE],
        "split": {"validation": 0.2},
    }
    return corpus(sources=sources, **{**defaults, **values})


NOISE = {"kind": "span_noise", "name": "noised", "fraction": 0.5, "share": 0.3}


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    config = config_of(raw)
    folder = tmp_path_factory.mktemp("prepared")
    build(config, folder)
    return config, folder


def told(prepared, name, scratch, is_finished=True):
    config, folder = prepared
    found = Explainer(config, folder, folder if is_finished else None, scratch).explain(name)
    assert json.loads(json.dumps(found)) == found
    assert found["id"] in lines_of(found)[0]
    return found


def test_every_record_is_told_as_the_account_has_it(prepared, tmp_path):
    report = report_of(prepared[1])
    outcomes = dict.fromkeys(OUTCOMES, 0)
    reasons = {}
    kept = {
        f"{d.source}/{d.id}": split for split in ("train", "validation") for d in read_documents(prepared[1], split)
    }
    numbers = {
        "web/a.jsonl": [*range(1, 17), 18],
        "web/b.txt": [1],
        "web/c.txt": [1],
        "books/books.jsonl": range(1, 16),
    }
    numbers |= {"web/d.tar/x/one.jsonl": (1, 2, 3), "web/d.tar/two.txt": [1]}
    for file, each in numbers.items():
        for number in each:
            scratch = tmp_path / f"{len(reasons)}-{number}"
            scratch.mkdir(parents=True, exist_ok=True)
            found = told(prepared, f"{file}:{number}", scratch)
            outcomes[found["outcome"]] += 1
            if found["outcome"] in ("rejected", "filtered"):
                reasons.setdefault(found["outcome"], []).append(found["reason"])
            assert (found["outcome"] == "kept") == (found["id"] in kept)
            if found["outcome"] == "kept":
                assert found["split"] == kept[found["id"]]
            if "duplicate_of" in found:
                assert found["duplicate_of"]["split"] == kept[found["duplicate_of"]["id"]]
                is_near = found["outcome"] == "near duplicate"
                assert (found["duplicate_of"]["jaccard"] < 1) == is_near
                assert not is_near or found["duplicate_of"]["jaccard"] >= 0.8
    assert outcomes == {
        "kept": report["kept"],
        "rejected": sum(report["rejected"].values()),
        "filtered": sum(report["filtered"].values()),
        "contaminated": report["contaminated"],
        **{f"{kind} duplicate": count for kind, count in report["duplicates"].items()},
    }
    assert all(outcomes.values())
    assert {reason: reasons["rejected"].count(reason) for reason in reasons["rejected"]} == report["rejected"]


def test_each_outcome_gives_its_grounds(prepared, tmp_path):
    short = told(prepared, "web/a.jsonl:12", tmp_path)
    assert (short["outcome"], short["rule"], short["value"], short["bound"]) == ("filtered", "length", 5, 10)
    exam = told(prepared, "web/a.jsonl:13", tmp_path)
    assert exam["contaminated_by"][0]["set"] == "exam"
    assert "small river" in exam["contaminated_by"][0]["excerpt"]
    cut = told(prepared, "web/a.jsonl:16", tmp_path)
    assert (cut["outcome"], cut["reason"], cut["reached"]) == ("rejected", "not valid JSON", True)
    binary = told(prepared, "web/c.txt:1", tmp_path)
    assert (binary["reason"], binary["reached"]) == ("binary data", False)
    text = told(prepared, "b.txt:1", tmp_path)
    assert [change["rule"] for change in text["changes"]] == ["line ends"]
    assert text["license"] == "CC BY 4.0"
    third = told(prepared, "web/a.jsonl:3", tmp_path)
    lines = (prepared[0].sources[0].path + "/a.jsonl", third["offset_bytes"])
    with open(lines[0], "rb") as file:
        file.seek(lines[1])
        assert json.loads(file.readline())["text"].startswith("[1-2]")


def test_personal_data_is_shown_masked(prepared, tmp_path):
    found = told(prepared, "web/a.jsonl:14", tmp_path)
    assert found["changes"][0]["edits"] == {"personal data: EMAIL": 1}
    assert "ann@example.org" not in json.dumps(found) + "".join(lines_of(found))


def test_augmentations_are_told_with_their_original(prepared, tmp_path):
    folder = prepared[1]
    (first, *_) = [d for d in read_documents(folder, "train") if "augmented" in d.metadata]
    found = told(prepared, f"{first.source}/{first.id}", tmp_path)
    assert found["outcome"] == "kept"
    assert f"{first.source}/{first.id}" in [one["id"] for one in found["added"]]
    with pytest.raises(DataError, match="augmentation made no such document"):
        told(prepared, f"{found['id']}#noised-7", tmp_path)


def test_before_the_corpus_is_there_what_it_alone_knows_is_unknown(prepared, tmp_path):
    assert told(prepared, "web/a.jsonl:12", tmp_path, False)["outcome"] == "filtered"
    assert told(prepared, "web/a.jsonl:13", tmp_path, False)["outcome"] == "contaminated"
    assert told(prepared, "web/a.jsonl:16", tmp_path, False)["outcome"] == "rejected"
    found = told(prepared, "web/a.jsonl:9", tmp_path, False)
    assert found["outcome"] == "undecided"
    assert any("duplicate" in what for what in found["unknown"])
    assert any("frequent" in what for what in found["unknown"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("web/a.jsonl:999", "the last one is web/a.jsonl:18"),
        ("web/a.jsonl:17", "nearest: web/a.jsonl:16 and web/a.jsonl:18"),
        ("web/aa.jsonl:1", "nearest: web/a.jsonl"),
        ("nowhere:1", "nearest"),
        ("web/a.jsonl", "no id"),
        ("web/d.tar/three.txt:1", "no such record"),
    ],
)
def test_unknown_ids_name_what_is_there(prepared, tmp_path, name, said):
    with pytest.raises(DataError, match=said) as raised:
        told(prepared, name, tmp_path)
    assert raised.value.exit_code == 3


def test_a_file_that_two_sources_have_needs_its_source(raw, tmp_path):
    sources = [{"name": name, "path": str(raw / "books.jsonl")} for name in ("one", "two")]
    config = corpus(sources=sources)
    with pytest.raises(DataError, match="write the source before it") as raised:
        Explainer(config, tmp_path, None, tmp_path).explain("books.jsonl:1")
    assert raised.value.details == ["one/books.jsonl:1", "two/books.jsonl:1"]
    assert Explainer(config, tmp_path, None, tmp_path).explain("two/books.jsonl:1")["source"] == "two"


def test_frequent_lines_are_those_of_the_corpus(tmp_path):
    notice = "This line stands on every page of the whole site."
    pages = [f"{text}\n{notice}" for text in texts(6, 8)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.jsonl").write_bytes(jsonl(pages))
    lines = {"repeated_lines": {"across_documents": 3}}
    config = corpus(sources=[{"name": "s", "path": str(tmp_path / "raw")}], clean=lines)
    folder = tmp_path / "work"
    build(config, folder)
    kept = {
        document.id: document.text for split in ("train", "validation") for document in read_documents(folder, split)
    }
    changed = [told((config, folder), f"s/{name}", tmp_path)["changes"] for name in sorted(kept)]
    assert [len(each) for each in changed] == [int(notice not in kept[name]) for name in sorted(kept)]
    assert sum(map(len, changed)) == 5


def test_records_of_files_in_sections(tmp_path, monkeypatch):
    monkeypatch.setattr(line_sections, "SECTION_BYTES", 2000)
    monkeypatch.setattr(streams, "SECTION_BYTES", {"bz2": 1 << 20, "": 2000})
    (tmp_path / "a.jsonl").write_bytes(jsonl(texts(40, 1)))
    (tmp_path / "b.xml").write_text(HEADER + "".join(page(i, text) for i, text in enumerate(texts(40, 2))) + FOOTER)
    sources = [{"name": name, "path": str(tmp_path / file)} for name, file in (("a", "a.jsonl"), ("b", "b.xml"))]
    config = corpus(sources=sources)
    folder = tmp_path / "work"
    build(config, folder)
    kept = {f"{d.source}/{d.id}": d.text for split in ("train", "validation") for d in read_documents(folder, split)}
    assert len(kept) == 80
    sections = {name.partition(":")[0] for name in kept}
    assert "a/a.jsonl" in sections and len(sections) > 4
    for name in sorted(kept)[::9]:
        found = told((config, folder), name, tmp_path)
        assert found["outcome"] == "kept"
        assert kept[name].startswith(found["excerpt"][:80].replace("\\n", "\n"))
        assert (found["section_bytes"] is None) == name.startswith("a/")
    with pytest.raises(DataError, match=r"read in sections; write b/b\.xml#0:3 to b/b\.xml#"):
        told((config, folder), "b/b.xml:3", tmp_path)


def test_every_duplicate_is_listed_once(prepared):
    report = report_of(prepared[1])
    listed = [json.loads(line) for path in sorted((prepared[1] / LISTING).iterdir()) for line in read_lines(path)]
    assert len({entry["id"] for entry in listed}) == len(listed)
    for kind, count in report["duplicates"].items():
        assert sum(entry["kind"] == kind for entry in listed) == count
    assert random.Random(1).choice(listed)["kept"].partition("/")[0] in ("web", "books")
