"""The committed pairs are what the script makes of the questions, each with two different answers."""

from __future__ import annotations

import json

from data.preferences import build


def test_the_files_are_what_the_script_makes() -> None:
    made = build.build()
    asked = {}
    for name, lines in made.items():
        assert (build.HERE / name).read_text(encoding="utf-8").splitlines() == lines
        pairs = [json.loads(line) for line in lines]
        assert all(pair["chosen"] != pair["rejected"] for pair in pairs)
        asked[name] = {pair["prompt"][-1]["content"] for pair in pairs}
    assert len(made["heldout.jsonl"]) == 76 and not asked["train.jsonl"] & asked["heldout.jsonl"]
