"""Prompts from files of several forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.compare.prompts import held_out, read_prompts, spread
from groundup.errors import DataError, RecipeError


def written(folder: Path, *records: Any) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_records_of_several_forms(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    found = read_prompts(
        written(
            tmp_path,
            {"prompt": "p", "reference": "r"},
            {"question": "q", "answer": "a", "id": 7},
            {"messages": turns},
            {"messages": turns[:2]},
        )
    )
    assert [prompt.text for prompt in found] == ["p", "q", "u", "u"]
    assert [prompt.reference for prompt in found] == ["r", "a", "a", None]
    assert [len(prompt.turns) for prompt in found] == [1, 1, 2, 2]
    assert [prompt.id for prompt in found] == ["prompts.jsonl:1", "7", "prompts.jsonl:3", "prompts.jsonl:4"]
    assert [prompt.text for prompt in spread(found, 2)] == ["p", "u"]
    assert len(list(spread(found, 0))) == 4


def test_bad_records_are_left_out(tmp_path: Path) -> None:
    bad = [
        {"prompt": " "},
        {"prompt": 3},
        {"messages": []},
        {"messages": "x"},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": [{"role": "thief", "content": "a"}]},
        {"prompt": "\ud800"},
    ]
    assert [prompt.text for prompt in read_prompts(written(tmp_path, *bad, {"prompt": "p"}))] == ["p"]
    with pytest.raises(DataError, match="no prompt"):
        read_prompts(written(tmp_path, *bad))


def test_a_folder_without_questions_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--prompts"):
        held_out(tmp_path)
