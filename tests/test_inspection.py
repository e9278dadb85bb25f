"""groundup tokenizer: any tokenizer, how it cuts a text, what files need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundup import cli
from groundup.tokens import TokenizerConfig, train_tokenizer
from tests.end_to_end import tiny
from tests.tokens import foreign_files
from tests.tokens.conftest import AUSTEN, TEXTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=400), TEXTS, folder)
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert cli.main(["tokenizer", *words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_text_is_shown_as_it_is_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, str(folder), "--text", "a truth 中\x1b")
    tokens = found["tokens"]
    assert isinstance(tokens, list)
    assert "".join(token["text"] for token in tokens if "\\x" not in token["text"]).startswith("a truth ")
    assert cli.main(["tokenizer", str(folder), "--text", "a truth\nuniversally\x1b"]) == 0
    shown = capsys.readouterr().out
    assert "| truth|\\n|" in shown
    assert "\x1b" not in shown


def test_files_are_measured_one_by_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(AUSTEN, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "北京。"}\nbroken\n', encoding="utf-8")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    fertility = answer(capsys, str(folder), *files)["fertility"]
    assert isinstance(fertility, dict)
    assert fertility["sources"].keys() == set(files)
    assert fertility["sources"][files[1]]["words"] == 2
    assert cli.main(["tokenizer", str(folder), *files]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + 1 + 2 + 2
    assert "bytes a token" in shown[1]


def test_foreign_files_are_looked_at_without_taking_them_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign_files.qwen(tmp_path / "tokenizer.json")
    assert answer(capsys, str(path), "--text", "It is")["vocab_size"] == 407
    assert list(tmp_path.iterdir()) == [path]


def test_a_recipe_without_a_tokenizer_says_what_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.write_recipe(tmp_path)
    assert cli.main(["tokenizer", str(path), "name=other", "--text", "x"]) == 4
    assert "run 'other' has no tokenizer yet; make it with: groundup prepare" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["nowhere", ".", "nowhere.yaml"])
def test_what_is_no_tokenizer_is_refused(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tokenizer", target]) in (2, 4)
