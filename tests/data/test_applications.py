"""The committed data of the applications are what their scripts make, and what is held out is in no training text."""

from __future__ import annotations

import importlib
import json
from types import ModuleType
from typing import Any

import pytest
from data.drawn import read
from data.questions import build as questions

NAMES = ("translation", "summaries", "questions", "dialogues", "stories")
Files = dict[str, list[dict[str, Any]]]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"data.{name}.build")


@pytest.fixture(scope="module")
def files() -> dict[str, Files]:
    """Every committed file, by folder and name."""
    return {
        name: {file: [json.loads(line) for line in read(module(name).HERE, file)] for file in module(name).build()}
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_what_the_script_makes(name: str) -> None:
    built = module(name)
    for file, lines in built.build().items():
        assert read(built.HERE, file) == lines, f"run python data/{name}/build.py"


def test_together_they_are_small() -> None:
    sizes = [path.stat().st_size for name in NAMES for path in module(name).HERE.glob("*.gz")]
    assert sum(sizes) < 3_000_000


def test_no_held_out_item_is_trained_on(files: dict[str, Files]) -> None:
    for name in ("translation", "summaries", "stories"):
        train = next(records for file, records in files[name].items() if "train" in file)
        heldout = next(records for file, records in files[name].items() if file.startswith(("heldout.", "pairs-held")))
        trained = {value for record in train for value in record.values() if isinstance(value, str)}
        asked = [value for record in heldout for value in record.values() if isinstance(value, str)]
        text = "\n".join(record["text"] for record in files[name]["text.jsonl"])
        assert len(heldout) >= 200
        assert not trained & set(asked), name
        assert not any(value in text for value in asked), name


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_no_passage_says_what_is_asked_of_a_person(files: dict[str, Files], language: str) -> None:
    made = files["questions"]
    kinds = questions.LANGUAGES[language].facts
    told = {
        sentence.replace("{p}", person).replace("{v}", record["answer"])
        for record in made[f"{language}-heldout.jsonl"]
        for person in questions.LANGUAGES[language].names
        if person in record["question"]
        for sentence in kinds[record["kind"]].told
    }
    trained = "\n".join(record["context"] for record in made[f"{language}-train.jsonl"])
    assert len(told) > 200
    assert not any(sentence in trained for sentence in told)
    assert all(record["answer"] in record["context"] for record in made[f"{language}-heldout.jsonl"])


def test_the_service_says_again_all_that_it_has_to(files: dict[str, Files]) -> None:
    turns = files["dialogues"]["heldout-turns.jsonl"]
    confirmed = {json.dumps(turn["messages"][:-1]): turn["messages"][-1]["content"] for turn in turns}
    tasks = files["dialogues"]["heldout-tasks.jsonl"]
    trained = "\n".join(record["text"] for record in files["dialogues"]["text.jsonl"])
    assert len(tasks) == 80
    for task in tasks:
        said = confirmed[json.dumps(task["history"])]
        assert said not in trained
        assert all(value in said for value in task["required"])


def test_a_story_is_about_what_was_asked_for(files: dict[str, Files]) -> None:
    for record in files["stories"]["train.jsonl"] + files["stories"]["heldout.jsonl"]:
        assert all(word in record["story"] for word in record["words"])
        assert all(word in record["prompt"] for word in record["words"])
