"""A record is explained before, and after, the corpus is prepared; nothing is built or left behind by asking."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundup import stage
from groundup.errors import DataError
from groundup.pipeline import explain, load_recipe, run_folder, workdir
from groundup.pipeline.context import Context
from groundup.pipeline.stages import listed
from groundup.train.guards import StopRequest
from tests.end_to_end import tiny


def test_a_record_before_and_after_its_corpus_is_prepared(tmp_path: Path) -> None:
    recipe = load_recipe(tiny.write_recipe(tmp_path))
    before = explain(recipe, "text/text.jsonl:3")
    assert (before["outcome"], before["corpus"]) == ("undecided", None)
    assert not workdir(recipe).exists()

    context = Context(recipe, run_folder(recipe), StopRequest())
    kind = next(kind for kind in listed(recipe) if kind.name == "corpus")
    done = stage.bring(kind.stage(context), workdir(recipe), lambda work: kind.build(context, work))
    files = sorted(workdir(recipe).rglob("*"))
    after = explain(recipe, "text.jsonl:3")
    assert (after["outcome"], after["corpus"]) == ("kept", str(done.path))
    assert after["split"] in ("train", "validation")
    assert [each["set"] for each in after["contaminated_by"]] == []
    assert sorted(workdir(recipe).rglob("*")) == files
    with pytest.raises(DataError, match="no such record"):
        explain(recipe, "text/text.jsonl:61")
    assert sorted(workdir(recipe).rglob("*")) == files
