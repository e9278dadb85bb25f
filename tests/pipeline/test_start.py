"""`pretrain.from`: what the files say is filled in, differences are named, and a run goes on from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import groundup
from groundup.errors import ModelFileError, RecipeError
from groundup.export import load_model
from groundup.models import Decoder, DecoderConfig, build_model
from groundup.pipeline import load_recipe
from groundup.pipeline.start import foreign_start
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from tests.end_to_end import tiny
from tests.export.gguf_files import file_of

MODEL = {"context_length": 64, "num_layers": 1, "hidden_size": 32, "num_heads": 2, "num_kv_heads": 1, "ffn_size": 48}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-like model with its tokenizer, as it comes from elsewhere."""
    place: Path = tmp_path_factory.mktemp("foreign")
    (place / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=300), [" ".join(tiny.WORDS)] * 20, place / "tokenizer")
    tokenizer = Tokenizer.load(place / "tokenizer")
    groundup.save_model(made(300), tokenizer, place / "model", with_transformers=False)
    return place / "model"


def made(vocab_size: int) -> Decoder:
    config = DecoderConfig.model_validate({**MODEL, "qk_norm": False, "attention_bias": "qkv"})
    model = build_model(config, vocab_size)
    model.initialise(7)
    return model.eval()


def recipe_file(tmp_path: Path, folder: Path, **changes: Any) -> Path:
    tiny.write_data(tmp_path)
    values = tiny.recipe(tmp_path)
    del values["tokenizer"], values["model"]
    values["pretrain"] = {**values["pretrain"], "tokens": 1024, "from": str(folder)}
    values["instruct"]["tokens"] = 1024
    for name, section in changes.items():
        values[name] = {**values.get(name, {}), **section}
    path = tmp_path / "start.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_model_and_tokenizer_are_filled_in(tmp_path: Path, folder: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, folder, model={"context_length": 32}))
    assert (recipe.model.attention_bias, recipe.model.hidden_size, recipe.model.context_length) == ("qkv", 32, 32)
    assert recipe.tokenizer.path == str(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"hidden_size": 64}}, r"model\.hidden_size: 64, but pretrain\.from has 32"),
        ({"model": {"attention_bias": "none"}}, r"model\.attention_bias: none, but pretrain\.from has qkv"),
        ({"pretrain": {"start": "bigrams"}}, "`from` brings its own"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe_file(tmp_path, folder, **changes))


def test_no_model_and_no_tokens_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no config\.json here"):
        load_recipe(recipe_file(tmp_path, tmp_path))
    absent = recipe_file(tmp_path, tmp_path / "nowhere", model={"kind": "decoder", **MODEL})
    assert load_recipe(absent).model.hidden_size == 32
    with pytest.raises(ModelFileError, match="is not there"):
        groundup.run(load_recipe(absent))
    path = recipe_file(tmp_path, folder, model={"kind": "decoder", **MODEL})
    with pytest.raises(RecipeError, match="tokens: 0 trains nothing"):
        load_recipe(path, ["pretrain.tokens=0", "pretrain.from=null"])


def test_tables_follow_the_tokenizer(folder: Path) -> None:
    source = load_model(folder).model
    for vocab_size in (290, 300, 310):
        start = foreign_start(str(folder), source.config, vocab_size, seed=1)
        table = start["embedding.weight"]
        assert start.rows_in_file == 300 and len(table) == vocab_size and not start.new
        known = min(300, vocab_size)
        assert torch.equal(table[:known], source.embedding.weight[:known])
        mean = source.embedding.weight.mean(0)
        torch.testing.assert_close(table[known:], mean.expand(vocab_size - known, -1))


def test_a_run_goes_on_from_the_weights(tmp_path: Path, folder: Path) -> None:
    """Taken as it is, then trained a little: the weights are the model's own, then a little way from them."""
    path = recipe_file(tmp_path, folder)
    result = groundup.run(load_recipe(path, ["pretrain.tokens=0", "name=as-it-is"]), until="pretrain")
    summary = next(entry["summary"] for entry in result.stages if entry["name"] == "pretrain")
    assert (summary["steps"], summary["rows_in_file"]) == (0, 300)
    start = load_model(folder).model.state_dict()
    kept = load_file(result.folder / "stages" / "pretrain" / summary["weights"])
    assert start.keys() == kept.keys() and all(
        torch.equal(start[name], kept[name][: len(start[name])]) for name in kept
    )
    trained = groundup.run(load_recipe(path), until="pretrain")
    summary = next(entry["summary"] for entry in trained.stages if entry["name"] == "pretrain")
    moved = load_file(trained.folder / "stages" / "pretrain" / summary["weights"])
    assert summary["steps"] == 2
    assert 0 < float((moved["norm.weight"] - kept["norm.weight"]).abs().max()) < 0.1


def test_a_model_that_cannot_be_exported_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path)
    recipe = load_recipe(path, ["model.norm=layer"])
    remedy = r"no Hugging Face layout has such a model; .* does not know norm: layer; change it, or stop at `evaluate`"
    with pytest.raises(RecipeError, match=f"^model: {remedy}"):
        groundup.run(recipe)
    assert not (tmp_path / "work" / "stages").exists()


def test_a_gguf_file_needs_its_tokenizer_named(tmp_path: Path, folder: Path) -> None:
    model = build_model(DecoderConfig(**MODEL, qk_norm=False), 300)
    model.initialise(1)
    file = tmp_path / "model.gguf"
    file.write_bytes(file_of(model))
    path = recipe_file(tmp_path, file)
    with pytest.raises(RecipeError, match=r"tokenizer\.path: pretrain\.from needs that model's own tokenizer"):
        groundup.run(load_recipe(path))
    assert load_recipe(path, [f"tokenizer.path={folder}"]).model.qk_norm is False
