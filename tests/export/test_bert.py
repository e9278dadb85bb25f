"""Encoders as folders: saved and read back, and what would be computed wrongly refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.errors import ModelFileError, RecipeError
from groundup.export import LoadedModel, load_model, save_model
from groundup.models import EncoderConfig, build_model
from groundup.tokens import CONTROL_TOKENS, ENCODER_TOKENS, Tokenizer, TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(
        TokenizerConfig(vocab_size=300), ["the river bank of 北京"] * 4, folder, (*CONTROL_TOKENS, *ENCODER_TOKENS)
    )
    return Tokenizer.load(folder)


def exported(tokenizer: Tokenizer, folder: Path, **changes: Any) -> LoadedModel:
    values = {"context_length": 16, "num_layers": 1, "hidden_size": 8, "num_heads": 2, "ffn_size": 12, **changes}
    model = build_model(EncoderConfig(kind="encoder", **values), tokenizer.vocab_size)
    model.initialise(2)
    save_model(model, tokenizer, folder, with_transformers=False)
    return load_model(folder)


@pytest.mark.parametrize("changes", [{}, {"next_sentence": True}, {"tied": False}, {"num_parts": 1}])
def test_what_is_saved_is_read_back(tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, Any]) -> None:
    loaded = exported(tokenizer, tmp_path, **changes)
    assert isinstance(loaded.model.config, EncoderConfig)
    assert loaded.model.config.tied == changes.get("tied", True)
    assert loaded.model.config.next_sentence == changes.get("next_sentence", False)
    assert not (tmp_path / "chat_template.jinja").exists(), "an encoder does not chat"
    assert not (tmp_path / "generation_config.json").exists()
    again = tmp_path / "again"
    save_model(loaded, again, with_transformers=False)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_gaps_are_filled_with_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    loaded = exported(tokenizer, tmp_path)
    first, second = loaded.fill_mask("the [MASK] bank[MASK]", top_k=4)
    assert len(first) == len(second) == 4
    assert all(filling.token not in tokenizer.control_ids for filling in (*first, *second))
    whole = loaded.fill_mask("[MASK]", top_k=10_000)[0]
    assert len(whole) == tokenizer.vocab_size - len(tokenizer.control_ids)
    assert 0.5 < sum(filling.probability for filling in whole) < 1, "the rest is that of control tokens"
    with pytest.raises(RecipeError, match="the model sees 16"):
        loaded.fill_mask("[MASK]" + "x" * 40)
    with pytest.raises(RecipeError, match="goes on with no text"):
        loaded.generate("the river")
    with pytest.raises(RecipeError, match="no head for labels, it fills gaps"):
        loaded.predict("the river")


@pytest.mark.parametrize(
    "text", ["the [MASK] bank", "[MASK] river", "a [MASK] of[MASK]", "北[MASK] of", "the  [MASK]", "the\n[MASK] bank"]
)
def test_gaps_are_filled_as_by_transformers(tokenizer: Tokenizer, tmp_path: Path, text: str) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = exported(tokenizer, tmp_path, init_std=0.4)
    pipe = transformers.pipeline("fill-mask", model=str(tmp_path), tokenizer=str(tmp_path), top_k=tokenizer.vocab_size)
    theirs = pipe(text)
    theirs = theirs if isinstance(theirs[0], list) else [theirs]
    for gap, ours in zip(theirs, loaded.fill_mask(text, top_k=10_000), strict=True):
        ordinary = [entry for entry in gap if entry["token"] not in tokenizer.control_ids]
        assert [entry["token"] for entry in ordinary[:5]] == [filling.token for filling in ours[:5]]
        assert [entry["score"] for entry in ordinary] == pytest.approx([f.probability for f in ours], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "'auto_map' asks for code"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"architectures": ["BertForMultipleChoice"]}, "is not known; use BertForMaskedLM or"),
        ({"new_trick": 3}, "unknown key 'new_trick'"),
        ({"hidden_size": None}, "no 'hidden_size'"),
        ({"num_attention_heads": 3}, "not divisible"),
        ({"vocab_size": -1}, "no positive number"),
        ({"num_hidden_layers": 2}, "layer.1.* is missing"),
        ({"type_vocab_size": 1}, "has shape"),
        ({"vocab_size": 10**12}, "describes 9e\\+12 parameters"),
        ({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "layout of BERT, such as BertForMaskedLM"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_name(
    changes: dict[str, Any], fault: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    exported(tokenizer, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelFileError, match=fault):
        load_model(tmp_path)


def test_tensors_are_compared_and_copies_must_agree(tokenizer: Tokenizer, tmp_path: Path) -> None:
    exported(tokenizer, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    table = tensors["bert.embeddings.word_embeddings.weight"]
    save_file({**tensors, "cls.predictions.decoder.weight": table.clone()}, path)
    load_model(tmp_path)
    save_file({**tensors, "cls.predictions.decoder.weight": table + 1}, path)
    with pytest.raises(ModelFileError, match="differs from the table"):
        load_model(tmp_path)
    save_file({**tensors, "cls.predictions.bias": torch.full_like(tensors["cls.predictions.bias"], float("nan"))}, path)
    with pytest.raises(ModelFileError):
        load_model(tmp_path)
