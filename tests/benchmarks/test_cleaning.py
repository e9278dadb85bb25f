"""The benchmark's input is the same for the same seed, and what two tools decided is compared rightly."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import cleaning

ROOT = Path(__file__).parents[2]


def test_the_input_follows_from_the_seed(tmp_path: Path) -> None:
    files = [ROOT / "data" / "smoke" / "text" / "austen.txt"]
    facts = cleaning.generate(files, tmp_path / "a", 60_000, seed=1)
    cleaning.generate(files, tmp_path / "b", 60_000, seed=1)
    cleaning.generate(files, tmp_path / "c", 60_000, seed=2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    assert facts["documents"] == len((tmp_path / "a").read_text().splitlines())


def test_groundups_side_runs_and_decisions_are_compared(tmp_path: Path) -> None:
    files = [ROOT / "data" / "smoke" / "text" / "austen.txt"]
    facts = cleaning.generate(files, tmp_path / "in", 60_000, seed=1)
    result = cleaning.run("groundup", tmp_path / "in", tmp_path / "ours")
    assert 0 < result["kept"] < facts["documents"]
    assert result["megabytes_per_second"] > 0
    same = cleaning.agreement(tmp_path / "ours", tmp_path / "ours")
    assert (same["same_decision"], same["same_text"], same["differences"]) == (1.0, 1.0, [])
    rows = [json.loads(line) for line in (tmp_path / "ours").read_text().splitlines()]
    place = next(place for place, (reason, _) in enumerate(rows) if not reason)
    rows[place] = ["why", ""]
    (tmp_path / "theirs").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = cleaning.agreement(tmp_path / "ours", tmp_path / "theirs")
    assert other["differences"] == [{"ours": "kept", "theirs": "why", "documents": 1}]
    assert other["both_keep"] == result["kept"] - 1
