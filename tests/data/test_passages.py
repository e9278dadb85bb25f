"""The committed passages are what the script makes of the novels, and no held-out one is trained on."""

from __future__ import annotations

import gzip
import json

from data.passages import build


def test_the_files_are_what_the_script_makes() -> None:
    made = build.build()
    for name, lines in made.items():
        with gzip.open(build.HERE / f"{name}.gz", "rt", encoding="utf-8") as handle:
            assert handle.read().splitlines() == lines
    train, heldout = ({json.loads(line)["passage"] for line in made[f"books-{s}.jsonl"]} for s in ("train", "heldout"))
    assert len(heldout) > 400
    assert not train & heldout
    for split in ("train", "heldout"):
        follows = [line.rpartition("\t")[2] for line in made[f"pairs-{split}.tsv"][1:]]
        assert 0.45 < follows.count("yes") / len(follows) < 0.55
