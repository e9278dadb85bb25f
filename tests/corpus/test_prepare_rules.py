"""Cleaning and augmentation in the whole room: counted, sampled, and the same whatever the parts and workers."""

import json

import pytest

from groundup.corpus import part_reader, parts, prepare, raw_identity, read_documents, segments
from groundup.corpus.duplicates import runs
from groundup.errors import RecipeError
from tests.corpus.test_prepare import assert_report_adds_up, build, content, corpus, jsonl, report_of, texts

BANNER = "This page was last edited by the friendly team."
SHUFFLE = {"kind": "sentence_shuffle", "name": "shuffle", "fraction": 0.5}


@pytest.fixture
def raw(tmp_path):
    """Two files of documents with a banner each, and unwanted words in some."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [f"{BANNER}\n{text}. And a second sentence, {number}.\n" for number, text in enumerate(texts(60, 1))]
    rows[3] = "darn " + rows[3]
    rows += [rows[0], rows[0]]
    (folder / "a.jsonl").write_bytes(jsonl(rows[:25]))
    (folder / "b.jsonl").write_bytes(jsonl(rows[25:]))
    (folder / "bad.txt.list").write_text("darn\n")
    return folder


def config(raw, **values):
    return corpus(sources=[{"name": "s", "path": str(raw / "*.jsonl")}], split={"validation": 0.2}, **values)


def rules(raw):
    return {
        "repeated_lines": {"across_documents": 5},
        "word_lists": [{"name": "bad", "path": str(raw / "bad.txt.list")}],
        "samples": 2,
    }


def documents(work):
    return [document for split in ("train", "validation", "test") for document in read_documents(work, split)]


def test_a_line_of_many_documents_stays_in_one(raw, tmp_path):
    build(config(raw, clean=rules(raw)), tmp_path / "work")
    report = report_of(tmp_path / "work")
    assert_report_adds_up(report)
    assert sum(BANNER in document.text for document in documents(tmp_path / "work")) == 1
    assert report["edits"]["repeated lines: frequent in the corpus"] == report["changed"]["repeated lines"]["documents"]
    assert report["filtered"] == {"word list bad": 1}
    (sample,) = report["samples"]["filtered"]["word list bad"]
    assert (sample["value"], sample["bound"], sample["record"]) == (1, 0, 4)
    assert len(report["changed"]["repeated lines"]["samples"]) == 2
    first = report["changed"]["repeated lines"]["samples"][0]
    assert BANNER[:20] in first["before"] and first["source"] == "s"
    assert not (tmp_path / "work" / "parts").exists()


def test_copies_of_one_document_make_no_line_frequent(raw, tmp_path):
    (raw / "a.jsonl").write_bytes(jsonl([f"{BANNER}\nthe very same document"] * 9 + texts(5, 2)))
    (raw / "b.jsonl").write_bytes(jsonl(texts(5, 3)))
    build(config(raw, clean={"repeated_lines": {"across_documents": 3}}), tmp_path / "work")
    assert report_of(tmp_path / "work")["edits"] == {}


def test_parts_workers_and_ranges_change_nothing(raw, tmp_path, monkeypatch):
    made = config(raw, clean=rules(raw), augment=[SHUFFLE])
    build(made, tmp_path / "whole")
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    with monkeypatch.context() as patch:  # not for processes, which would not know of it
        patch.setattr(runs, "RUN_RECORDS", 50)
        patch.setattr(segments, "SEGMENT_BITS", 4)
        build(made, tmp_path / "small")
    monkeypatch.setattr(prepare, "_WORTH_PROCESSES_BYTES", 0)
    build(made, tmp_path / "two", workers=2)
    expected = documents(tmp_path / "whole")
    assert documents(tmp_path / "small") == documents(tmp_path / "two") == expected
    whole, small, two = (report_of(tmp_path / name) for name in ("whole", "small", "two"))
    for report in (whole, small, two):
        assert_report_adds_up(report, added=sum(method["documents"] for method in report["added"].values()))
        del report["shards"]
    assert small == two
    # of texts that are the same to the byte in one part only the first is cleaned and compared
    for differing in ("changed", "edits"):
        for report in (whole, small):
            del report[differing]
            for source in report["sources"].values():
                del source[differing]
    assert small == whole


def test_only_the_train_split_is_augmented_and_counted(raw, tmp_path):
    methods = [SHUFFLE, {"kind": "span_noise", "name": "noise", "fraction": 1.0}]
    plain = build(config(raw), tmp_path / "plain")
    summary = build(config(raw, augment=methods), tmp_path / "work")
    report = report_of(tmp_path / "work")
    added = sum(method["documents"] for method in report["added"].values())
    assert added > 30
    assert report["kept"] + added == sum(split["documents"] for split in report["splits"].values())
    assert report["kept"] + added == sum(shard["documents"] for shard in report["shards"])
    assert report["sources"]["s"]["added"] == report["added"] == summary["added"]
    assert summary["kept"] == plain["kept"]
    for split in ("validation", "test"):
        assert list(read_documents(tmp_path / "work", split)) == list(read_documents(tmp_path / "plain", split))
    train = list(read_documents(tmp_path / "work", "train"))
    originals = [document for document in train if "augmented" not in document.metadata]
    assert originals == list(read_documents(tmp_path / "plain", "train"))
    sizes = report["splits"]["train"]
    assert sizes["characters"] == sum(len(document.text) for document in train)
    assert sizes["bytes"] == sum(len(document.text.encode()) for document in train)


def test_identity_is_what_word_lists_hold(raw, tmp_path):
    before = raw_identity(config(raw, clean=rules(raw)), tmp_path)
    (raw / "bad.txt.list").rename(raw / "other.list")
    moved = {**rules(raw), "word_lists": [{"name": "bad", "path": str(raw / "other.list")}]}
    assert raw_identity(config(raw, clean=moved), tmp_path) == before
    (raw / "other.list").write_text("gosh\n")
    assert raw_identity(config(raw, clean=moved), tmp_path) != before
    assert json.dumps(before)


def test_a_model_folder_is_run_by_the_given_function(raw, tmp_path):
    (raw / "model").mkdir()
    (raw / "model" / "config.json").write_text("{}")
    rewrite = {"kind": "rewrite", "name": "r", "fraction": 1.0, "model_folder": str(raw / "model")}
    made = config(raw, augment=[rewrite])
    with pytest.raises(RecipeError, match="model_folder"):
        build(made, tmp_path / "work")
    calls = []

    def complete(method):
        return lambda prompt, seed: calls.append(seed) or "in other words"

    (tmp_path / "work").mkdir(exist_ok=True)
    summary = prepare.build_corpus(made, tmp_path, tmp_path / "work", complete=complete)
    assert summary["added"]["r"]["documents"] == len(calls) == summary["splits"]["train"]["documents"] / 2


def test_augmentation_is_made_anew_where_it_alone_changed(raw, tmp_path, monkeypatch):
    """Stopped before the end, with other methods the next time: parts are used again, shards are not."""
    monkeypatch.setattr(prepare, "publish", None)
    with pytest.raises(TypeError):
        build(config(raw, augment=[SHUFFLE]), tmp_path / "work")
    monkeypatch.undo()
    monkeypatch.setattr(part_reader, "_PartReader", None)
    summary = build(config(raw, augment=[{**SHUFFLE, "fraction": 1.0}]), tmp_path / "work")
    assert summary["added"]["shuffle"]["documents"] + summary["kept"] == sum(
        split["documents"] for split in summary["splits"].values()
    )
    monkeypatch.undo()
    build(config(raw, augment=[{**SHUFFLE, "fraction": 1.0}]), tmp_path / "whole")
    assert content(tmp_path / "work") == content(tmp_path / "whole")


def test_every_way_out_is_counted_and_sampled(raw, tmp_path):
    exam = raw / "exam.txt"
    exam.write_text(texts(60, 1)[7])
    rows = [*texts(60, 1)[:10], texts(60, 1)[0].upper(), texts(60, 1)[1] + " end", "darn it, all of this line"]
    (raw / "c.jsonl").write_bytes(jsonl(rows) + b'{"text": 1}\n')
    rules_and_set = {"clean": rules(raw), "decontaminate": [{"name": "exam", "path": str(exam)}]}
    build(config(raw, **rules_and_set, augment=[SHUFFLE]), tmp_path / "work")
    report = report_of(tmp_path / "work")
    added = sum(method["documents"] for method in report["added"].values())
    assert_report_adds_up(report, added=added)
    assert report["contaminated"] == report["decontamination"][0]["documents"] == 2
    assert all(report["duplicates"].values())
    ways = {"rejected": report["rejected"], "filtered": report["filtered"], "duplicates": report["duplicates"]}
    for kind, reasons in ways.items():
        assert {reason: min(2, count) for reason, count in reasons.items()} == {
            reason: len(examples) for reason, examples in report["samples"][kind].items()
        }
    assert len(report["decontamination"][0]["samples"]) == 2


def test_augment_faults(raw):
    with pytest.raises(RecipeError, match="two ways to augment are named 'shuffle'"):
        config(raw, augment=[SHUFFLE, SHUFFLE])
    with pytest.raises(RecipeError, match="names the source 'x'"):
        config(raw, augment=[{**SHUFFLE, "sources": ["x"]}])
    with pytest.raises(RecipeError, match="sentence_shuffle"):
        config(raw, augment=[{**SHUFFLE, "kind": "sentence_shufle"}])


def test_every_rule_and_way_to_augment_enters_the_identity(raw, tmp_path):
    variants = [
        {},
        {"clean": {"gopher": {}}},
        {"clean": {"gopher": {"min_words": 49}}},
        {"clean": {"gopher": {"languages": {"zh": {"min_words": 7}}}}},
        {"clean": {"repeated_lines": {"across_documents": 5}}},
        {"clean": {"personal_data": {"phone": "keep"}}},
        {"augment": [SHUFFLE]},
        {"augment": [{**SHUFFLE, "fraction": 0.4}]},
        {"augment": [{**SHUFFLE, "sources": ["s"]}]},
    ]
    identities = [json.dumps(raw_identity(config(raw, **values), tmp_path), sort_keys=True) for values in variants]
    assert len(set(identities)) == len(variants)
