"""What went in: every way in which documents were lost or added has its row, with examples."""

from __future__ import annotations

from pathlib import Path

from groundup.report import data
from groundup.report.read import RunFiles
from tests.report.toy_run import account, contamination, corpus_report


def test_contaminated_documents_have_their_reason_and_added_ones_their_count(tmp_path: Path) -> None:
    sample = {"document": "web/a.jsonl:7", "example": "exam.jsonl:1", "share": 0.5, "excerpt": "how many clips"}
    report = {
        **corpus_report(),
        **account(7431, 7, 61, 118, 43),
        "contaminated": 90,
        "decontamination": [
            {"name": "exam", "documents": 90, "samples": [sample] * 5},
            {"name": "other", "documents": 0, "samples": []},
        ],
        "edits": {"c4: citations": 3},
        "added": {"noise": {"documents": 12, "characters": 900}},
    }
    found = data.corpus(RunFiles("run", tmp_path, corpus=report))
    row = next(row for row in found["flows"]["all"]["rows"] if row["step"] == "Contaminated")
    assert (row["what"], row["documents"], len(row["examples"])) == ("exam", "90", 3)
    assert row["examples"][0] == "web/a.jsonl:7 holds exam.jsonl:1: how many clips"
    assert found["all"]["contaminated"] == "90"
    assert len(found["edits"]) == 1
    assert [value for _, value in found["added"]] == ["12", "900"]


def test_a_report_without_them_has_no_rows_for_them(tmp_path: Path) -> None:
    found = data.corpus(RunFiles("run", tmp_path, corpus=corpus_report()))
    steps = [row["step"] for row in found["flows"]["all"]["rows"]]
    duplicates = ["Exact duplicate", "Near duplicate"]
    assert steps == ["Came in", "Not readable", "Rule length", *duplicates, "Kept", "Edited by unescape"]
    assert found["edits"] == found["added"] == []


def test_the_way_of_each_source_is_its_own(tmp_path: Path) -> None:
    found = data.corpus(RunFiles("run", tmp_path, corpus=corpus_report(), contamination=contamination()))
    factbook, austen = found["flows"]["sources"]
    assert [row["step"] for row in austen["rows"]] == ["Came in", "Exact duplicate", "Near duplicate", "Kept"]
    assert factbook["rows"][1]["examples"] == ["factbook.jsonl:17: it has id, body"]
    assert factbook["rows"][1]["bytes"] == "–"
    assert factbook["rows"][2]["examples"] == ["factbook.jsonl:90 (2, bound 10): NA"]
    matrix = found["contamination"]
    assert (matrix["sources"], matrix["rows"][0]["cells"]) == (["factbook", "austen"], [0, 3])
    assert [table["title"] for table in found["histograms"]] == [
        *("Length", "Script of most letters", "Language", "Exact duplicates", "Near duplicates")
    ]
    assert {row["name"]: row["sources"] for row in found["licenses"]} == {
        "public domain": "factbook",
        "not given": "austen",
    }


def test_a_report_of_an_earlier_version_has_what_it_has(tmp_path: Path) -> None:
    report = corpus_report()
    for share in (report, *report["sources"].values()):
        for key in ("bytes", "lengths", "scripts", "languages", "licenses"):
            share.pop(key)
    del report["rules"], report["deduplication"]["cluster_sizes"]
    found = data.corpus(RunFiles("run", tmp_path, corpus=report))
    assert found["histograms"] == found["licenses"] == found["contamination"]["rows"] == []
    rows = found["flows"]["all"]["rows"]
    assert [row["bytes"] for row in rows if row["colour"] != "edited"] == ["–"] * 6
    assert rows[2]["step"] == "Rule of cleaning"
