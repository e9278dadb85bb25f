"""Tokenizers from elsewhere through every stage: shards, training, export, chat."""

from __future__ import annotations

import json
from pathlib import Path

import groundup
from groundup.export import load_model
from groundup.inference import GenerateConfig
from groundup.tokens import Tokenizer
from tests.end_to_end import tiny
from tests.tokens import foreign_files


def test_a_run_with_a_tokenizer_taken_in(tmp_path: Path) -> None:
    file = foreign_files.llama2(tmp_path / "tokenizer.json")
    gpt2 = foreign_files.gpt2(tmp_path / "gpt2.json")
    section = {"path": str(file), "compare": [str(gpt2)]}
    values = tiny.recipe(tmp_path, tokenizer=section, evaluate={"max_new_tokens": 4, "continuation_tokens": 4})
    tiny.write_data(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    overrides = ["pretrain.tokens=2048", "instruct.tokens=2048"]
    result = groundup.run(groundup.load_recipe(path, overrides))
    tokenizer = Tokenizer.load(result.folder / "stages" / "tokenizer")
    summary = next(entry["summary"] for entry in result.stages if entry["name"] == "tokenizer")
    assert summary["vocab_size"] == tokenizer.vocab_size
    assert summary["control"]["<|endoftext|>"] == "</s>"
    report = json.loads((result.folder / "stages" / "fertility" / "report.json").read_text(encoding="utf-8"))
    assert report["vocab_size"].keys() == {"this tokenizer", "gpt2.json"}
    assert report["split"] == {"text": "validation"}
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "gpt2.json" in page
    assert result.model_folder is not None
    model = load_model(result.model_folder)
    assert model.model.vocab_size == tokenizer.vocab_size
    reply = "".join(model.chat(GenerateConfig(max_new_tokens=8)).reply("What is the capital of Normarland? ▁"))
    assert isinstance(reply, str)
