"""Groundup's own layout of the LSTM: written, read back, refused when it is damaged, and used to generate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.errors import ModelFileError
from groundup.export import load_model, save_model
from groundup.inference import GenerateConfig
from groundup.models import LSTM, LSTMConfig, build_model
from groundup.tokens import Tokenizer


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LSTM:
    config = LSTMConfig(context_length=32, num_layers=2, hidden_size=24, tied=request.param, dropout=0.2)
    made = build_model(config, tokenizer.vocab_size)
    made.initialise(3)
    return made.eval()


def test_a_folder_gives_back_the_model(model: LSTM, tokenizer: Tokenizer, tmp_path: Path) -> None:
    summary = save_model(model, tokenizer, tmp_path)
    assert "read by Groundup only" in summary["checks"]["transformers"]["skipped"]
    loaded = load_model(tmp_path)
    assert loaded.model.config == model.config
    tokens = torch.randint(0, tokenizer.vocab_size, (2, 9))
    torch.testing.assert_close(loaded.logits(tokens), model(tokens), rtol=1e-5, atol=1e-6)


def test_generation_goes_on_from_the_state_as_from_the_whole_prompt(
    model: LSTM, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(model, tokenizer, tmp_path)
    loaded = load_model(tmp_path)
    text = loaded.generate("the cat", GenerateConfig(max_new_tokens=8))
    ids = tokenizer.document_prompt("the cat")
    for _ in range(8):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in tokenizer.stop_ids:
            ids.pop()
            break
    assert text == tokenizer.decode(ids[len(tokenizer.document_prompt("the cat")) :])


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    kept = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in kept.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 25}, "has shape"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_layers": 3}, "layers.2.* is missing"),
        ({"num_layers": "2"}, "num_layers"),
        ({"num_heads": 2}, "unknown key 'num_heads'"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "never run"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    model: LSTM, tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_model(model, tokenizer, tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "unknown", "nan"])
def test_weights_that_do_not_fit_are_refused(
    model: LSTM, tokenizer: Tokenizer, tmp_path: Path, damage: str, make_model: Callable[[str], Any]
) -> None:
    save_model(model, tokenizer, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bias = tensors.pop("layers.0.bias")
    if damage == "unknown":
        tensors["layers.0.spare"] = bias
    elif damage == "nan":
        tensors["layers.0.bias"] = torch.full_like(bias, float("nan"))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match={"nan": "NaN"}.get(damage, r"layers\.0")):
        load_model(tmp_path)
