"""What cannot be trained with rows split over ranks is refused by name when the recipe is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from groundup.errors import RecipeError
from groundup.pipeline import load_recipe
from tests.end_to_end import tiny

LSTM = {"kind": "lstm", "context_length": 64, "num_layers": 1, "hidden_size": 16}
PREFERENCES = {"sources": [{"name": "pairs", "path": "pairs.jsonl"}], "tokens": 512, "global_batch_tokens": 512}


def faults(folder: Path, *words: str, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tiny.write_recipe(folder, **changes), words)
    return "\n".join([caught.value.message, *caught.value.details])


def test_what_cannot_share_rows_is_refused_by_name(tmp_path: Path) -> None:
    two = "runtime.parallel.context=2"
    assert "context: 2: model.kind: lstm reads its rows whole; use context: 1" in faults(
        tmp_path, two, model=LSTM, instruct=None
    )
    told = faults(tmp_path, two, "model.context_length=62", "pretrain.global_batch_tokens=620", instruct=None)
    assert "model.context_length 62 is no multiple of that; use 64" in told
    assert "compile: off or auto; ranks talk" in faults(tmp_path, two, "runtime.compile=on")
    assert "preferences judge rows as wholes" in faults(tmp_path, two, preferences=PREFERENCES)


def test_ranks_that_share_rows_need_no_rows_of_their_own(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path, instruct=None)
    words = ["pretrain.global_batch_tokens=64", "runtime.parallel.context=4", "runtime.devices=4"]
    assert load_recipe(path, words).runtime.parallel.data_ranks(4) == 1
    with pytest.raises(RecipeError, match="64 is no multiple of context_length 64 x 2 ranks"):
        load_recipe(path, [*words, "runtime.devices=8"])


def test_rows_are_shared_by_the_ranks_of_each_stage(tmp_path: Path) -> None:
    words = ["runtime.parallel.context=2", "runtime.parallel.pipeline=2", "runtime.devices=4"]
    assert load_recipe(tiny.write_recipe(tmp_path), words).runtime.parallel.ranks_of_a_row == 4
