"""Adapters in peft's layout: peft computes what the merged model does, and its own folders come back."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.errors import ModelFileError, first_line
from groundup.export import open_source, save_adapter, with_adapter
from groundup.models import (
    DecoderConfig,
    DoRAConfig,
    LoRAConfig,
    LowRankConfig,
    Network,
    build_model,
    huggingface_config,
    to_huggingface,
)
from tests.models.test_adapters import adapted, learned, plain, tokens
from tests.train.kinds import decoder

os.environ["HF_HUB_OFFLINE"] = "1"
VOCAB = 64
WAYS: dict[str, LowRankConfig] = {
    "lora of some": LoRAConfig(rank=4, alpha=8, targets=("attention", "down")),
    "lora, rank-stabilised": LoRAConfig(rank=4, alpha=8, rank_stabilised=True),
    "dora": DoRAConfig(rank=4, alpha=8),
    "lora and tables": LoRAConfig(rank=4, alpha=8, also=("embedding.weight", "norm.*")),
}
FAMILIES = ("qwen3", "llama", "gpt2")
"""Matrices as they are; a tied table; matrices that are turned and joined."""


def write_base(model: Network, folder: Path) -> Path:
    """A Hugging Face folder of weights."""
    folder.mkdir()
    state = {name: p.detach() for name, p in model.named_parameters()}
    assert isinstance(model.config, DecoderConfig)
    tensors = {name: value.contiguous() for name, value in to_huggingface(model.config, state).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(model.config, VOCAB)))
    return folder


def exportable(family: str) -> DecoderConfig:
    """Heads with keys of their own, which GPT-2 has."""
    return decoder(family).model_copy(update={"num_kv_heads": 2})


def loaded(source: Any) -> Tensor:
    """Logits of a source's model."""
    model = build_model(source.config, source.vocab_size)
    model.load_state_dict({name: source[name].float() for name in source})
    found: Tensor = model.eval()(tokens(time=12))
    return found


@pytest.fixture
def folders(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, Tensor]:
    """Base and adapter folder of (way, family), and the logits of both together."""
    way, family = request.param
    model = plain(exportable(family))
    made = adapted(WAYS[way], model)
    base = write_base(model, tmp_path / "base")
    save_adapter(model.config, VOCAB, WAYS[way], learned(made), tmp_path / "adapter", str(base))
    return base, tmp_path / "adapter", made(tokens(time=12)).detach()


ALL = [(way, family) for way in WAYS for family in FAMILIES]


@pytest.mark.parametrize("folders", ALL, indirect=True, ids=[f"{way}: {family}" for way, family in ALL])
def test_peft_gives_the_same_logits(folders: tuple[Path, Path, Tensor]) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    base, adapter, expected = folders
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries among themselves
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        both = peft.PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        torch.testing.assert_close(both(tokens(time=12)).logits, expected, rtol=1e-5, atol=1e-5)
        assert (model(tokens(time=12)).logits - expected).abs().max() < 1e-4, "peft works in place"


@pytest.mark.parametrize("folders", ALL, indirect=True, ids=[f"{way}: {family}" for way, family in ALL])
def test_a_folder_merges_into_its_base(folders: tuple[Path, Path, Tensor]) -> None:
    base, adapter, expected = folders
    found = loaded(with_adapter(open_source(base), adapter))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (loaded(open_source(base)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("use_dora", [False, True])
def test_what_peft_saves_is_read(tmp_path: Path, use_dora: bool) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    base = write_base(plain(exportable("llama")), tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "up_proj"], use_dora=use_dora)
        both = peft.get_peft_model(model, settings)
        for name, parameter in both.named_parameters():
            if "lora_" in name:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(6))
        both.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = both.eval()(tokens(time=12)).logits
    found = loaded(with_adapter(open_source(base), tmp_path / "adapter"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save names 'lm_head'"),
    "biases": ({"bias": "all"}, "bias = 'all' is not supported"),
    "no rank": ({"r": -1}, "are no rank and alpha"),
    "no alpha": ({"lora_alpha": float("nan")}, "are no rank and alpha"),
    "no magnitudes": ({"use_dora": True}, "lacks one of"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("folders", [("lora of some", "llama")], indirect=True)
def test_settings_that_cannot_be_followed_are_refused(folders: tuple[Path, Path, Tensor], fault: str) -> None:
    base, adapter, _ = folders
    changes, words = FAULTS[fault]
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelFileError, match=words) as caught:
        with_adapter(open_source(base), adapter)
    assert len(first_line(caught.value)) <= 200


def change(name: str, tensors: dict[str, Tensor]) -> None:
    first = next(iter(tensors))
    if name == "another model":
        tensors[first.replace("layers.0", "layers.77")] = tensors.pop(first)
        tensors[first.replace("layers.0", "layers.77").replace("lora_A", "lora_B")] = tensors.pop(
            first.replace("lora_A", "lora_B")
        )
    elif name == "another width":
        tensors[first] = torch.zeros(4, 7)
    elif name == "infinity":
        tensors[first][0, 0] = float("inf")
    else:
        del tensors[first]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("another model", "no place in this model"),
        ("another width", "the base has"),
        ("infinity", "NaN or infinity"),
        ("half an adapter", "lacks one of"),
    ],
)
@pytest.mark.parametrize("folders", [("lora of some", "llama")], indirect=True)
def test_tensors_that_do_not_fit_are_refused(folders: tuple[Path, Path, Tensor], fault: str, words: str) -> None:
    base, adapter, _ = folders
    path = adapter / "adapter_model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(fault, tensors)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelFileError, match=words) as caught:
        source = with_adapter(open_source(base), adapter)
        list(source.values())
    assert len(first_line(caught.value)) <= 200


def test_a_layer_joined_from_adapted_and_others_has_no_folder(tmp_path: Path) -> None:
    config = LoRAConfig(rank=2, targets=("query",))
    model = plain(exportable("gpt2"))
    with pytest.raises(ModelFileError, match="joins layers with an adapter and others"):
        save_adapter(model.config, VOCAB, config, learned(adapted(config, model)), tmp_path / "adapter")


def test_the_same_adapters_give_the_same_bytes(tmp_path: Path) -> None:
    config = LoRAConfig(rank=2)
    model = plain()
    for name in ("one", "two"):
        save_adapter(model.config, VOCAB, config, learned(adapted(config, model)), tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
