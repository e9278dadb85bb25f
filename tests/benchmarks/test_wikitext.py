"""The extraction benchmark's dump is a dump, the same for the same seed, and its judge counts what is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.runners import wiki

from benchmarks import wikidump, wikitext


def test_a_seed_gives_the_same_dump_that_everyone_can_read(tmp_path: Path) -> None:
    first, second = tmp_path / "a.xml.bz2", tmp_path / "b.xml.bz2"
    wikidump.write(first, 0.3, 7)
    wikidump.write(second, 0.3, 7)
    assert first.read_bytes() == second.read_bytes()
    assert len(list(wiki.articles(str(first)))) >= len(list(wiki.groundup_dump(str(first)))) > 5


@pytest.mark.parametrize("what", ["text", "dump"])
def test_the_runner_measures(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    wikidump.write(tmp_path / "a.xml.bz2", 0.1, 1)
    found = wiki.measure({"tool": "groundup", "what": what, "dump": str(tmp_path / "a.xml.bz2")})
    assert found["seconds"] > 0
    assert found["bytes"] > found["characters_out"] > 1000


def test_words_are_judged_as_bags() -> None:
    hand = {"en": "The cat (black) sat.", "ja": "猫は座る"}
    assert wikitext.judged(hand, hand)["f1"] == 1
    found = wikitext.judged(hand, {"en": "The cat () sat [[down]].", "ja": "猫が座る"})
    assert (found["words_kept"], found["same_as_by_hand"], found["stumbling_places"]) == (6 / 8, 0, 3)
    json.dumps(found)
