"""Evaluation sets, in any file format, are found in documents; what is found is counted set by set."""

import gzip
import json

import pytest
from pydantic import ValidationError

from groundup import config
from groundup.corpus.contamination import decontaminate
from groundup.corpus.contamination.decontaminate import Checker, build_index, evaluation_set, set_reports
from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig, read_examples
from groundup.corpus.contamination.measure import CONTAMINATION, measure_contamination
from groundup.corpus.documents import read_documents
from groundup.corpus.duplicates.shingles import token_hashes
from groundup.corpus.prepare import CorpusConfig, build_corpus, raw_identity
from groundup.errors import DataError, first_line

QUESTION = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many in May"
ANSWER = "She sold twenty four clips in May, so all in all she sold seventy two clips to her friends"
OTHER = "A robe takes two bolts of blue fiber and half that much white fiber; how many bolts does it take in total?"


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def exam(tmp_path):
    rows = [
        {"id": 1, "question": QUESTION, "answer": ANSWER},
        {"messages": [{"role": "user", "content": OTHER}, {"role": "assistant", "content": "3"}]},
        {"question": "What is two and two?"},
    ]
    path = tmp_path / "exam.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(rows) + b"broken\n"))
    return path


def examples(path, folder, **options):
    return list(read_examples(EvaluationSetConfig(name="exam", path=str(path), **options), folder, folder))


def test_every_text_of_a_record_is_looked_for_or_the_named_fields(exam, tmp_path):
    found = examples(exam, tmp_path)
    assert [example.label for example in found] == ["exam.jsonl.gz:1", "exam.jsonl.gz:2", "exam.jsonl.gz:3"]
    assert found[0].texts == (QUESTION, ANSWER)
    assert OTHER in found[1].texts
    assert examples(exam, tmp_path, fields=("answer",))[0].texts == (ANSWER,)
    with pytest.raises(DataError, match=r"no field anser with text in .*correct path or fields"):
        examples(exam, tmp_path, fields=("anser",))
    with pytest.raises(DataError, match="no such file"):
        examples(tmp_path / "nothing.jsonl", tmp_path)
    with pytest.raises(ValidationError, match="local"):
        EvaluationSetConfig(name="a", path="https://example.org/exam.jsonl")


def test_columns_are_named_by_fields(tmp_path):
    (tmp_path / "exam.csv").write_text(f'q,a\n"{QUESTION}","{ANSWER}"\n')
    assert examples(tmp_path / "exam.csv", tmp_path, fields=("a", "q"))[0].texts == (ANSWER, QUESTION)
    assert examples(tmp_path / "exam.csv", tmp_path)[0].texts == (QUESTION, ANSWER), "without fields all are looked at"


def test_a_plain_text_is_a_set_too(tmp_path):
    (tmp_path / "poem.txt").write_text(QUESTION, encoding="utf-16")
    assert examples(tmp_path / "poem.txt", tmp_path)[0].texts == (QUESTION,)


def index_of(paths, folder, **options):
    sets = [
        evaluation_set(EvaluationSetConfig(name=name, path=str(path), **options), folder, folder)
        for name, path in paths.items()
    ]
    build_index(sets, folder / "index")
    return folder / "index"


def test_counts_and_samples_of_each_set(exam, tmp_path):
    (tmp_path / "other.jsonl").write_bytes(jsonl([{"q": OTHER}]))
    folder = index_of({"exam": exam, "other": tmp_path / "other.jsonl"}, tmp_path)
    checker = Checker(folder)
    documents = {"a:1": f"He said: {QUESTION.upper()}!", "a:2": "nothing of it", "b:1": f"{OTHER} {ANSWER}"}
    contaminated = [checker.check(text, token_hashes(text), name) for name, text in documents.items()]
    assert contaminated == [True, False, True]
    first, second = set_reports(folder, [("s", checker.to_json()), ("t", {})])
    assert (first["name"], first["examples"], first["examples_too_short"]) == ("exam", 3, 1)
    assert (first["documents"], first["examples_found"], first["documents_per_source"]) == (2, 2, {"s": 2})
    assert first["documents_by_share"]["75% or more"] == 2
    sample = first["samples"][0]
    assert (sample["document"], sample["example"], sample["share"]) == ("a:1", "exam.jsonl.gz:1", 1.0)
    assert sample["excerpt"] == " ".join(QUESTION.upper().split()[:13])
    assert (second["documents"], second["samples"][0]["document"]) == (1, "b:1")


def test_tallies_of_parts_add_up(exam, tmp_path):
    folder = index_of({"exam": exam}, tmp_path)
    texts = [QUESTION, OTHER, f"{QUESTION} {OTHER}", "neither"] * 3
    whole = Checker(folder)
    for number, text in enumerate(texts):
        whole.check(text, token_hashes(text), f"d{number}")
    parts = []
    for start in range(0, len(texts), 5):
        checker = Checker(folder)
        for number, text in enumerate(texts[start : start + 5], start):
            checker.check(text, token_hashes(text), f"d{number}")
        parts.append(("s", checker.to_json()))
    assert set_reports(folder, parts) == set_reports(folder, [("s", whole.to_json())])
    assert set_reports(folder, parts)[0]["documents"] == 9


def test_a_set_that_is_too_large_is_refused(exam, tmp_path, monkeypatch):
    monkeypatch.setattr(decontaminate, "NGRAM_LIMIT", 5)
    with pytest.raises(DataError, match="more than 5 n-grams in all sets; leave out") as caught:
        index_of({"exam": exam}, tmp_path)
    assert len(first_line(caught.value)) <= 200


def corpus_of(raw, **values):
    return config.build(CorpusConfig, {"sources": [{"name": "s", "path": str(raw)}], **values}, "test")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    clean = [f"text {i} " + " ".join(f"w{i * j % 97}" for j in range(60)) for i in range(1, 40)]
    rows = [{"text": text} for text in [*clean, f"Read this. {QUESTION}", f"Again: {QUESTION} :", OTHER, OTHER]]
    (folder / "a.jsonl").write_bytes(jsonl(rows))
    return folder


def prepared(folder, raw, **values):
    folder.mkdir()
    build_corpus(corpus_of(raw, **values), folder, folder)
    return json.loads((folder / "report.json").read_text())


def test_contaminated_documents_are_dropped_and_the_account_adds_up(exam, raw, tmp_path):
    report = prepared(tmp_path / "work", raw, decontaminate=[{"name": "exam", "path": str(exam)}])
    assert (report["total"], report["kept"], report["contaminated"]) == (43, 39, 4)
    assert report["files"][0]["contaminated"] == 4
    assert report["decontamination"][0]["documents"] == 4  # two of them are the same to the byte
    assert report["decontamination"][0]["examples_found"] == 2
    left = measure(tmp_path, exam)
    assert left["sets"][0]["documents"] == 0


def test_as_many_samples_as_asked_for(exam, raw, tmp_path):
    for count in (0, 1, 4):
        values = {"clean": {"samples": count}, "decontaminate": [{"name": "exam", "path": str(exam)}]}
        report = prepared(tmp_path / str(count), raw, **values)
        assert len(report["decontamination"][0]["samples"]) == count


def measure(tmp_path, exam, **options):
    folder = tmp_path / "measured"
    folder.mkdir()
    sets = [EvaluationSetConfig(name="exam", path=str(exam), **options)]
    summary = measure_contamination(tmp_path / "work", sets, tmp_path, folder)
    assert [path.name for path in folder.iterdir()] == [CONTAMINATION]
    assert "samples" not in summary["sets"][0]
    return json.loads((folder / CONTAMINATION).read_text())


def test_a_set_that_is_only_reported_changes_nothing(exam, raw, tmp_path):
    named = [{"name": "exam", "path": str(exam), "action": "report"}]
    report = prepared(tmp_path / "work", raw, decontaminate=named, deduplicate={"near": False})
    assert (report["kept"], report["contaminated"]) == (42, 0)
    found = measure(tmp_path, exam)["sets"]
    assert [each["name"] for each in found] == ["exam", "split-validation"]
    train = [document.text for document in read_documents(tmp_path / "work", "train")]
    expected = sum(QUESTION in text or OTHER in text for text in train)
    assert 1 <= expected <= 3
    assert found[0]["documents"] == expected
    assert found[0]["documents_per_source"] == {"s": expected}
    assert raw_identity(corpus_of(raw, decontaminate=named), tmp_path) == raw_identity(corpus_of(raw), tmp_path)
    named[0]["action"] = "drop"
    identity = raw_identity(corpus_of(raw, decontaminate=named), tmp_path)
    assert identity["decontaminate"][0]["files"][0][0] == "exam.jsonl.gz"


def test_what_held_out_text_shares_with_training_text_is_measured(exam, raw, tmp_path):
    (tmp_path / "held.txt").write_text(f"{ANSWER} {OTHER} and much more that is in no other document")
    sources = [{"name": "s", "path": str(raw)}, {"name": "h", "path": str(tmp_path / "held.txt"), "split": "test"}]
    prepared(tmp_path / "work", raw, sources=sources, split={"validation": 0.0})
    found = measure(tmp_path, exam)["sets"]
    assert [(each["name"], each["examples"], each["documents"]) for each in found] == [
        ("exam", 3, 2),
        ("split-test", 1, 1),
    ]
    assert found[1]["samples"][0]["example"] == "h/held.txt:1"


def test_sources_that_are_not_trained_on_keep_their_documents(exam, raw, tmp_path):
    sources = [
        {"name": "s", "path": str(raw)},
        {"name": "t", "path": str(exam), "text_field": "question", "split": "test"},
    ]
    report = prepared(tmp_path / "work", raw, sources=sources, decontaminate=[{"name": "exam", "path": str(exam)}])
    assert report["sources"]["t"]["contaminated"] == 0
    assert report["sources"]["t"]["kept"] == 2


def test_the_recipes_questions_are_dropped_where_asked(exam, raw, tmp_path):
    heldout = [EvaluationSetConfig(name="heldout-q", path=str(exam))]
    (tmp_path / "work").mkdir()
    summary = build_corpus(corpus_of(raw), tmp_path, tmp_path / "work", heldout=heldout)
    assert summary["contaminated"] == 4
    identities = [raw_identity(corpus_of(raw), tmp_path, sets) for sets in ((), heldout)]
    assert identities[0] != identities[1]


def test_two_sets_of_one_name_are_refused(tmp_path):
    with pytest.raises(Exception, match="two evaluation sets are named 'a'"):
        corpus_of(tmp_path, decontaminate=[{"name": "a", "path": "x"}, {"name": "A", "path": "y"}])
