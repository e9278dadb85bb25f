"""Verifying folders: one hash for equal state wherever it lies, each fault named, clear words for what is no state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import ModelFileError, RecipeError, first_line
from groundup.stage import Stage, bring
from groundup.verification import verify_folder


def make_run(work: Path) -> Path:
    """A run of two stages, the second not finished."""

    def build(folder: Path) -> dict[str, Any]:
        (folder / "weights").write_text("1 2 3")
        return {}

    done = bring(Stage("pretrain", {"seed": 1}), work, build)
    run = work / "runs" / "toy"
    run.mkdir(parents=True)
    entries = [
        {"name": "pretrain", "state": "done", "folder": str(done.path)},
        {"name": "export", "state": "missing", "folder": str(work / "stages" / "export")},
    ]
    (run / "stages.json").write_text(json.dumps(entries))
    return run


def test_a_run_is_its_finished_stages(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    assert verify_folder(one) == verify_folder(two)
    assert verify_folder(one)[1] == []
    weights = next((tmp_path / "one" / "stages" / "pretrain").glob("*/weights"))
    weights.write_text("1 2 4")
    assert verify_folder(one)[1] == ["pretrain: weights: content differs from its recorded SHA-256"]
    shutil.rmtree(weights.parent)
    assert "no manifest.json" in verify_folder(one)[1][0]


def test_a_stage_and_a_link_to_it_are_the_same(tmp_path: Path) -> None:
    make_run(tmp_path)
    folder = next((tmp_path / "stages" / "pretrain").glob("*[0-9a-f]"))
    (tmp_path / "link").symlink_to(folder)
    assert verify_folder(tmp_path / "link") == verify_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"state": "missing"}]', "[1]", "[" * 100_000])
def test_a_run_without_anything_finished_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "stages.json").write_text(content)
    with pytest.raises(ModelFileError) as caught:
        verify_folder(tmp_path)
    assert len(first_line(caught.value)) <= 200


def test_what_is_not_there_or_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such folder"):
        verify_folder(tmp_path / "gone")
    with pytest.raises(ModelFileError, match=r"no manifest\.json"):
        verify_folder(tmp_path)
