"""Writing a model folder: the same bytes after a round trip, and no folder that failed its check."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from groundup.errors import ModelFileError, ResourceError
from groundup.export import ExportConfig, load_model, save_model, save_weights, write
from groundup.models import Decoder
from groundup.tokens import Tokenizer

Make = Callable[[str], Decoder]
LAYOUTS = ("qwen3", "llama", "wide")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_load_save_gives_the_same_bytes(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, layout: str, dtype: str
) -> None:
    config = ExportConfig(dtype=dtype)  # type: ignore[arg-type]
    first = save_model(make_model(layout), tokenizer, tmp_path / "first", config, with_transformers=False)
    loaded = load_model(tmp_path / "first")
    second = save_model(loaded, tmp_path / "second", config, with_transformers=False)
    assert first["dtype"] == dtype
    assert second["checks"]["groundup"]["difference"] == 0.0
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "second").iterdir())
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reloaded_model_has_the_trained_models_logits(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, layout: str
) -> None:
    model = make_model(layout)
    summary = save_model(model, tokenizer, tmp_path / "model", with_transformers=False)
    tokens = torch.randint(0, model.vocab_size, (2, 30), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_model(tmp_path / "model").logits(tokens), model(tokens), atol=1e-5, rtol=1e-5)
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert summary["checks"]["transformers"] == {"skipped": "not asked for"}


def test_the_folder_holds_what_other_engines_look_for(exported: Path, tokenizer: Tokenizer) -> None:
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["dtype"] == config["torch_dtype"] == "float32"
    assert config["eos_token_id"] == [tokenizer.turn_end_id, tokenizer.end_of_text_id]
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"]
    assert generation["max_new_tokens"] == 32
    assert generation["do_sample"] is True
    with safe_open(exported / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    present = {path.name for path in exported.iterdir()}
    assert present == {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }


def test_greedy_advice_names_no_sampling(make_model: Make, tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(make_model("llama"), tokenizer, tmp_path, ExportConfig(temperature=0.0), with_transformers=False)
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert "temperature" not in generation


def test_a_failed_check_leaves_no_model(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(config: Any, state: Any) -> Iterator[tuple[str, torch.Tensor]]:
        tensors = dict(original(config, state))
        gate, up = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up"))
        tensors[gate], tensors[up] = tensors[up], tensors[gate]
        yield from tensors.items()

    original = write.huggingface_tensors
    monkeypatch.setattr(write, "huggingface_tensors", swapped)
    with pytest.raises(ModelFileError, match="a fault of the export"):
        save_model(make_model("wide"), tokenizer, tmp_path, with_transformers=False)
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(ModelFileError, match="no config"):
        load_model(tmp_path)


def test_the_model_goes_on_as_it_was(make_model: Make, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = make_model("qwen3").train()
    model.set_compute_dtype(torch.bfloat16)
    save_model(model, tokenizer, tmp_path, with_transformers=False)
    assert model.training
    assert model.compute_dtype == torch.bfloat16
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_disk_that_refuses_is_named(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ResourceError, match="free some space"):
        save_model(make_model("llama"), tokenizer, tmp_path / "model", with_transformers=False)
    assert not (tmp_path / "model" / "config.json").exists()


class Lent(Mapping[str, torch.Tensor]):
    """Tensors made when they are asked for; `most` counts how many of them were there at once."""

    def __init__(self, model: Decoder) -> None:
        self.parameters = dict(model.named_parameters())
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.most = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self.parameters[name].detach().clone()
        self.alive.add(tensor)
        self.most = max(self.most, len(self.alive))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_asked_for_one_after_the_other(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, layout: str
) -> None:
    model, config = make_model(layout), ExportConfig(max_shard_bytes=1)
    weights = Lent(model)
    save_model(model, tokenizer, tmp_path / "model", config, with_transformers=False)
    save_weights(model.config, model.vocab_size, weights, lambda: model, tokenizer, tmp_path / "again", config, False)
    assert weights.most <= 3 < len(weights)
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
