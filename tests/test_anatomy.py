"""`show --model` and `import` on the command line: recipes, folders, GGUF files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from groundup import cli
from groundup.export import check, load_model
from groundup.models import DecoderConfig, build_model
from groundup.tokens import TokenizerConfig, train_tokenizer
from tests.end_to_end import tiny
from tests.export.gguf_files import file_of


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    sizes = {
        "context_length": 32,
        "num_layers": 2,
        "hidden_size": 32,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ffn_size": 48,
    }
    model = build_model(DecoderConfig(**sizes, qk_norm=False), 290)
    model.initialise(1)
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of(model))
    return path


def test_a_recipes_model_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.write_recipe(tmp_path)
    assert cli.main(["show", str(path), "--model", "--json", "model.num_layers=3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {part["count"] for part in told["parts"]} == {1, 3}
    assert told["parameters"] == sum(part["parameters"] for part in told["parts"])
    assert cli.main(["show", str(path), "--model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["part", "parameters", "FLOPs/token"]
    assert any(line.startswith("layers.0-1.attention.query.weight") and "2 x [32, 32]" in line for line in lines)


def test_a_model_is_counted_before_its_texts_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.write_recipe(
        tmp_path, corpus={"sources": [{"name": "text", "path": str(tmp_path / "later/*.parquet")}]}
    )
    assert cli.main(["show", str(path), "--model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"][0]["shape"] == [384, 32], (
        "as many tokens as the recipe asks for"
    )


def test_a_file_is_counted_without_reading_it(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(gguf), "--model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"][0]["shape"] == [290, 32]
    assert cli.main(["show", str(gguf.parent / "nowhere"), "--model"]) == 4
    assert "is not there" in capsys.readouterr().err


def test_import_makes_a_folder_that_answers(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_check_transformers", lambda *given: {"skipped": "takes seconds"})
    (tmp_path / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=300), ["the cat sat on the mat"] * 3, tmp_path / "tokenizer")
    words = ["import", str(gguf), str(tmp_path / "ours"), "dtype=bfloat16", "--json"]
    assert cli.main(words) == 4
    assert "--tokenizer" in capsys.readouterr().err
    assert cli.main([*words, "--tokenizer", str(tmp_path / "tokenizer")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["vocab_size"], told["rows_in_file"]) == (300, 290)
    assert load_model(tmp_path / "ours").logits(torch.tensor([[299]])).shape == (1, 1, 300)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("import",), "give a model"), (("import", "a"), "the folder to write"), (("import", "a", "b", "x=1"), "x")],
)
def test_import_says_what_is_missing(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err
