"""What went in: every way in which documents were lost or added has its row, with examples."""

from __future__ import annotations

from pathlib import Path

from groundup.report import data
from groundup.report.read import RunFiles
from tests.report.toy_run import account, corpus_report


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
    steps = {row["step"] for row in found["flows"]["all"]["rows"]}
    assert {"Came in", "Not readable", "Exact duplicate", "Kept"} <= steps
    assert "Contaminated" not in steps
    assert found["edits"] == found["added"] == []
