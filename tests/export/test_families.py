"""Every family of decoders: transformers and we give the same logits, from their files and from ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from groundup.config import build, parse_yaml
from groundup.errors import ModelFileError, first_line
from groundup.export.architecture import read_architecture
from groundup.export.load import load_model
from groundup.export.source import open_source
from groundup.export.write import write_weights
from groundup.models import (
    DecoderConfig,
    build_model,
    from_huggingface,
    huggingface_config,
    layout_of,
    to_huggingface,
)
from tests.export.random_models import FAMILIES, VOCAB, random_values

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")

CASES = [(family, seed) for family in FAMILIES for seed in range(4 if family in ("gpt2", "xglm", "opt") else 10)]
"""So many that every way to stretch rotary positions comes up."""
TOLERANCE = 1e-5


def native(values: dict[str, Any], seed: int) -> torch.nn.Module:
    """Their model, with every weight random (norms and biases too)."""
    settings = transformers.AutoConfig.for_model(**values)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)
    return model


def tokens_of(context: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (2, context), generator=torch.Generator().manual_seed(context))


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).abs().max()) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("family", "seed"), CASES)
def test_their_folder_gives_their_logits_here(family: str, seed: int, tmp_path: Path) -> None:
    model = native(random_values(family, seed), seed)
    model.save_pretrained(tmp_path, max_shard_size="20KB" if seed % 2 else "1GB")
    loaded = load_model(tmp_path, need_tokenizer=False)
    tokens = tokens_of(loaded.model.config.context_length)
    theirs = model(tokens).logits
    same(loaded.logits(tokens), theirs)
    cache = loaded.model.new_cache(2, tokens.shape[1])
    loaded.model.prefill(tokens[:, :11], cache)
    for at in range(11, 15):
        same(loaded.model.decode(tokens[:, at : at + 1], cache), theirs[:, at])


@torch.no_grad()
@pytest.mark.parametrize(("family", "seed"), CASES)
def test_our_model_gives_our_logits_there(family: str, seed: int, tmp_path: Path) -> None:
    config, vocab_size, _ = read_architecture(random_values(family, seed), Path("config.json"))
    model = build_model(config, vocab_size)
    model.initialise(seed)
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)
    values = huggingface_config(config, vocab_size)
    (tmp_path / "config.json").write_text(json.dumps(values))
    write_weights(config, vocab_size, model.state_dict(), tmp_path, torch.float32, 20_000)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    tokens = tokens_of(config.context_length)
    same(model(tokens), theirs.eval()(tokens).logits)
    again = open_source(tmp_path)
    copy = build_model(again.config, vocab_size)
    copy.load_state_dict({name: again[name] for name in again})
    same(copy(tokens), model(tokens))


@torch.no_grad()
def test_dynamic_scaling_beyond_the_context_is_theirs() -> None:
    values = random_values("llama", 3)
    assert values["rope_parameters"]["rope_type"] == "dynamic"
    model = native(values, 1)
    config, vocab_size, layout = read_architecture(values, Path("config.json"))
    ours = build_model(config, vocab_size)
    ours.load_state_dict(from_huggingface(config, vocab_size, dict(model.state_dict()), layout))
    tokens = tokens_of(config.context_length + 13)
    same(ours(tokens), model(tokens).logits)


@torch.no_grad()
@pytest.mark.parametrize("placement", ["before", "after"])
def test_the_classic_transformer_is_exported(placement: str) -> None:
    """Fixed waves and norms behind each part have no class of transformers; the waves become a table."""
    sizes = {"context_length": 24, "num_layers": 2, "hidden_size": 30, "num_heads": 3, "num_kv_heads": 3}
    switches = {"positions": "sinusoidal", "norm": "layer", "norm_epsilon": 1e-5, "activation": "relu", "gated": False}
    biases = {"attention_bias": "all", "ffn_bias": True, "qk_norm": False, "ffn_size": 50, "scale_embedding": True}
    made = DecoderConfig(**sizes, **switches, **biases, norm_placement=placement)
    model = build_model(made, VOCAB)
    model.initialise(1)
    values = huggingface_config(made, VOCAB)
    assert values["model_type"] == {"before": "xglm", "after": "opt"}[placement]
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**values))
    theirs.load_state_dict(to_huggingface(made, model.state_dict()))
    tokens = tokens_of(24)
    same(model(tokens), theirs.eval()(tokens).logits)


@torch.no_grad()
@pytest.mark.parametrize("of_masks", [torch.float32, torch.uint8, torch.bool])
def test_files_of_a_bare_body_and_of_older_times_are_read(of_masks: torch.dtype, tmp_path: Path) -> None:
    """As the files of GPT-2 are: no prefix, masks beside the weights, in the format of their day."""
    model = native(random_values("gpt2", 2), 2)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=of_masks)
    save_file(bare, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, need_tokenizer=False)
    tokens = tokens_of(loaded.model.config.context_length)
    same(loaded.logits(tokens), model(tokens).logits)
    whole_numbers = torch.ones_like(bare["h.0.ln_1.weight"], dtype=torch.int64)
    save_file({**bare, "h.0.ln_1.weight": whole_numbers}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="is I64; read are F64, F32, F16, BF16"):
        load_model(tmp_path, need_tokenizer=False)


def test_the_switches_of_the_guide_are_the_families() -> None:
    page = (Path(__file__).parents[2] / "docs/guide/pretrain.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (Llama|Mistral|Qwen2|GPT-2|classic Transformer) \| `([^`]+)`", page, re.MULTILINE)
    sizes = {"context_length": 64, "num_layers": 1, "hidden_size": 8, "num_heads": 2, "num_kv_heads": 2, "ffn_size": 8}
    found = {}
    for family, switches in rows:
        values = {**sizes, **parse_yaml("{" + switches + "}", "guide")}
        found[family] = layout_of(build(DecoderConfig, values, "guide")).model_type
    after = build(DecoderConfig, {**values, "norm_placement": "after"}, "guide")
    assert layout_of(after).model_type == "opt"
    wanted = {"Llama": "llama", "Mistral": "mistral", "Qwen2": "qwen2", "GPT-2": "gpt2"}
    assert found == {**wanted, "classic Transformer": "xglm"}


WRONG: tuple[Any, ...] = (-1, 0, 10**12, 1.5, "x", True, [], ["x"], {"rope_type": "yarn"}, float("nan"))


@settings(max_examples=150)
@given(family=st.sampled_from(FAMILIES), seed=st.integers(0, 20), key=st.integers(0, 30), wrong=st.sampled_from(WRONG))
def test_a_config_with_a_wrong_value_is_read_or_refused(family: str, seed: int, key: int, wrong: Any) -> None:
    values = random_values(family, seed)
    spoilt = {**values, sorted(values)[key % len(values)]: wrong}
    try:
        config, _, _ = read_architecture(spoilt, Path("config.json"))
        config.num_parameters(VOCAB)
    except ModelFileError as error:
        assert not first_line(error).endswith("...")


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"norm": "layer"}, "norm: layer"),
        ({"positions": "learned"}, "positions: learned"),
        ({"gated": False}, "gated: false"),
        ({"norm_placement": "after"}, "norm_placement: after"),
        ({"qk_norm": False, "attention_bias": "qkv", "ffn_bias": True}, "attention_bias: qkv"),
        ({"scale_embedding": True, "tied": True}, "scale_embedding with tied: true"),
    ],
)
def test_what_no_layout_can_say_is_refused_by_name(switches: dict[str, Any], words: str) -> None:
    sizes = {"context_length": 8, "num_layers": 2, "hidden_size": 8, "num_heads": 2, "num_kv_heads": 1, "ffn_size": 8}
    with pytest.raises(ModelFileError, match=f"no Hugging Face layout has such a model.*{words}"):
        huggingface_config(DecoderConfig(**{**sizes, **switches}), 10)
