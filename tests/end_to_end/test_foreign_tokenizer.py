"""Tokenizers from elsewhere through every stage: shards, training, export, chat."""

from __future__ import annotations

import json
from pathlib import Path

import groundup
from groundup.export import load_model
from groundup.inference import GenerateConfig
from groundup.tokens import PackedConversations, Tokenizer, examples_of
from groundup.tokens.template import target_spans
from tests.end_to_end import tiny
from tests.tokens import foreign_files
from tests.tokens.chat_templates import SHAPES, write_folder


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


def test_a_run_with_the_chat_template_of_its_tokenizer(tmp_path: Path) -> None:
    """From training to the exported folder one template, and what ends an answer is what the template writes there."""
    theirs = write_folder(tmp_path / "theirs", "default system")
    values = tiny.recipe(tmp_path, tokenizer={"path": str(theirs)}, evaluate={"max_new_tokens": 4})
    values["model"]["context_length"] = 128
    tiny.write_data(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    result = groundup.run(groundup.load_recipe(path, ["pretrain.tokens=2048", "instruct.tokens=2048"]))
    assert result.model_folder is not None
    assert (result.model_folder / "chat_template.jinja").read_text() == SHAPES["default system"].text
    model = load_model(result.model_folder)
    codec = model.tokenizer
    rows = PackedConversations(result.folder / "stages" / "conversations" / "questions", "questions", 128)
    for example in (each for i in range(rows.num_rows) for each in examples_of(rows.row(i))):
        (span,) = target_spans(example)
        start = example.is_target.index(True)
        shown = codec.decode(example.ids[:start], skip_control=False)
        assert shown.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
        assert shown.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert codec.answer_text(span) in tiny.PLACES.values()
        assert span[-1] == codec.control["<|im_end|>"]
    generation = json.loads((result.model_folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [codec.control["<|im_end|>"], codec.control["<|endoftext|>"]]
    assert isinstance("".join(model.chat(GenerateConfig(max_new_tokens=8)).reply("Who?")), str)


def test_tools_have_a_token_where_a_recipe_keeps_them(tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    tiny.write_data(tmp_path)
    messages = [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 1}}}]},
        {"role": "tool", "content": "2 <|tool|>"},
        {"role": "assistant", "content": "2"},
    ]
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    values["instruct"]["sources"][0]["tools"] = "keep"
    values["model"]["context_length"] = 128
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    result = groundup.prepare(groundup.load_recipe(path))
    codec = Tokenizer.load(result.folder / "stages" / "tokenizer")
    assert codec.vocab_size == 384
    rows = PackedConversations(result.folder / "stages" / "conversations" / "questions", "questions", 128)
    (example,) = examples_of(rows.row(0))
    assert example.ids.count(codec.control["<|tool|>"]) == 1, "what a tool says is text"
    assert [codec.answer_text(span) for span in target_spans(example)] == [
        '{"name": "add", "arguments": {"a": 1, "b": 1}}',
        "2",
    ]
