"""The committed atlas and smoke data are what the script makes of the raw files, and keep their promises."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
ATLAS = DATA / "atlas"
BUILT = [
    "atlas/text/factbook.jsonl.gz",
    "atlas/text/facts.jsonl.gz",
    "atlas/text/austen.jsonl.gz",
    "atlas/test/persuasion.jsonl.gz",
    "atlas/questions/short.jsonl.gz",
    "atlas/questions/long.jsonl.gz",
    "atlas/questions/heldout.jsonl.gz",
    "atlas/questions/heldout_long.jsonl.gz",
    "smoke/text/factbook.jsonl",
    "smoke/text/austen.txt",
    "smoke/questions/train.jsonl",
    "smoke/questions/heldout.jsonl",
]


def content(path: Path) -> bytes:
    """A file's bytes, decompressed: two versions of zlib may compress the same bytes differently."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(DATA / name).splitlines()]


def question(row: dict[str, Any]) -> str:
    return str(row["messages"][0]["content"]).lower().strip(" ?.!")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-B", str(ATLAS / "build.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("name", BUILT)
def test_rebuilding_gives_the_committed_bytes(rebuilt: Path, name: str) -> None:
    assert content(rebuilt / name) == content(DATA / name)


TRAINED = {
    "atlas": ("atlas/questions/short.jsonl.gz", "atlas/questions/long.jsonl.gz"),
    "smoke": ("smoke/questions/train.jsonl",),
}


def trained_rows(recipe: str) -> list[dict[str, Any]]:
    return [row for name in TRAINED[recipe] for row in rows(name)]


@pytest.mark.parametrize("recipe", ["atlas", "smoke"])
def test_no_held_out_question_is_trained_on(recipe: str) -> None:
    trained = {question(row) for row in trained_rows(recipe)}
    name = next(name for name in BUILT if name.startswith(f"{recipe}/questions/heldout"))
    held_out = [question(row) for row in rows(name)]
    assert len(held_out) > 50
    assert not trained.intersection(held_out)


def test_every_held_out_short_fact_is_in_the_text_and_in_other_questions() -> None:
    sheets = {row["text"].split(":")[0]: row["text"] for row in rows("atlas/text/facts.jsonl.gz")}
    trained = {(row["country"], row["task"]) for row in trained_rows("atlas")}
    for row in rows("atlas/questions/heldout.jsonl.gz"):
        assert (row["country"], row["task"]) in trained
        assert f" {row['messages'][1]['content']}." in sheets[row["country"]]


def test_persuasion_stays_out_of_the_training_text() -> None:
    novels = {row["id"].split("/")[1] for row in rows("atlas/text/austen.jsonl.gz")}
    assert len(novels) == 5
    assert "persuasion" not in novels
    assert any("Kellynch" in row["text"] for row in rows("atlas/test/persuasion.jsonl.gz"))


def test_documents_have_unique_names_and_no_layout_noise() -> None:
    documents = [*rows("atlas/text/factbook.jsonl.gz"), *rows("atlas/text/facts.jsonl.gz")]
    assert len({row["id"] for row in documents}) == len(documents)
    assert all("++" not in row["text"] and len(row["text"]) < 1200 for row in documents)
