"""Any other class of transformers: its own numbers, documents apart, losses by our head, and what is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from groundup.errors import ModelFileError
from groundup.models import TransformersConfig, TransformersModel, build_model
from tests.models.transformers_classes import CLASSES, VOCAB, values_of

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
TOLERANCE = 1e-5
LENGTHS = (9, 1, 14, 8)
WIDE = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 10**5}


def config_of(model_type: str, **changes: Any) -> TransformersConfig:
    return TransformersConfig(context_length=32, values={**values_of(model_type), **changes})


def made(model_type: str, **changes: Any) -> TransformersModel:
    with torch.device("meta"):
        model = build_model(config_of(model_type, **changes), VOCAB)
    model.to_empty(device="cpu")
    model.initialise(1)
    assert isinstance(model, TransformersModel)
    draw = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.endswith("correction_bias")
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    return model.eval()


def native(model: TransformersModel) -> Any:
    """The class itself, made by transformers, with the weights of `model`."""
    settings = transformers.AutoConfig.for_model(**model.config.values, vocab_size=VOCAB, pad_token_id=None)
    theirs = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    weights = {name.removeprefix("body."): p.detach() for name, p in model.named_parameters()}
    assert {name for name in weights if "correction" in name} == {
        n for n, _ in theirs.named_buffers() if "correction" in n
    }
    if "head.weight" in weights:
        weights[f"{model.output}.weight"] = weights.pop("head.weight")
    unknown = theirs.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown
    theirs.tie_weights()
    return theirs


def tokens(rows: int, time: int) -> Tensor:
    return torch.randint(0, VOCAB, (rows, time), generator=torch.Generator().manual_seed(rows * time))


def packed() -> tuple[Tensor, Tensor]:
    """Segments and positions of two rows of four documents."""
    segments = torch.cat([torch.full((length,), number) for number, length in enumerate(LENGTHS)])
    places = torch.cat([torch.arange(length) for length in LENGTHS])
    return segments.expand(2, -1), places.expand(2, -1)


@torch.no_grad()
@pytest.mark.parametrize("model_type", CLASSES)
def test_logits_are_those_of_the_class(model_type: str) -> None:
    model = made(model_type)
    torch.testing.assert_close(
        model(tokens(2, 20)), native(model)(tokens(2, 20)).logits, rtol=TOLERANCE, atol=TOLERANCE
    )


@torch.no_grad()
@pytest.mark.parametrize("model_type", CLASSES)
def test_documents_of_a_row_are_what_they_are_alone(model_type: str) -> None:
    model, row = made(model_type), tokens(2, sum(LENGTHS))
    segments, places = packed()
    alone = torch.cat([model(part) for part in torch.split(row, LENGTHS, dim=1)], dim=1)
    torch.testing.assert_close(model(row, segments=segments, positions=places), alone, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(model(row, segments=segments), alone, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("model_type", CLASSES)
def test_losses_and_gradients_are_those_of_cross_entropy(model_type: str) -> None:
    model, row = made(model_type), tokens(2, 16)
    targets = torch.where(tokens(2, 16) % 5 == 0, -100, tokens(2, 16))
    sums, counts = model(row, targets=targets, row_weights=torch.full((2,), 0.5))
    sums.sum().mul(0.5).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    plain = functional.cross_entropy(model(row).flatten(0, 1), targets.flatten(), reduction="sum")
    (plain * 0.5).backward()
    torch.testing.assert_close(sums.sum(), plain, rtol=1e-5, atol=1e-5)
    assert counts.tolist() == (targets != -100).sum(1).tolist()
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found.keys() == learning.keys()
    for name, parameter in learning.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("model_type", CLASSES)
def test_a_cache_gives_what_the_whole_text_gives(model_type: str) -> None:
    model, row = made(model_type), tokens(3, 14)
    whole = model(row)
    cache = model.new_cache(3, 20)
    torch.testing.assert_close(model.prefill(row[:, :9], cache), whole[:, 8], rtol=1e-4, atol=1e-5)
    cache.keep(torch.tensor([2, 0]))
    for at in range(9, 14):
        found = model.decode(row[[2, 0], at : at + 1], cache)
        torch.testing.assert_close(found, whole[[2, 0], at], rtol=1e-4, atol=1e-5)
    assert cache.length == 14


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2", "falcon"])
def test_numbers_in_bfloat16_are_about_the_same(model_type: str) -> None:
    model = made(model_type)
    exact = model(tokens(2, 20))
    model.set_compute_dtype(torch.bfloat16)
    found = model(tokens(2, 20))
    assert found.dtype == torch.float32 and 0 < float((found - exact).abs().max()) < 0.1 * float(exact.abs().max())


def test_roles_blocks_and_names() -> None:
    model = made("gpt_neox", tie_word_embeddings=False)
    roles = {name: model.role(name) for name, _ in model.named_parameters()}
    assert roles["body.gpt_neox.embed_in.weight"] == "embedding" and roles["head.weight"] == "head"
    assert roles["body.gpt_neox.layers.1.attention.dense.weight"] == "matrix"
    assert roles["body.gpt_neox.layers.0.attention.dense.bias"] == "vector"
    assert len(model.blocks()) == 2 and len(model.matrix_parameters()) == 8
    tied = made("gpt_neo")
    assert tied.role("body.transformer.wpe.weight") == "embedding"
    assert "head.weight" not in dict(tied.named_parameters())
    assert not any(module.training for module in tied.train().body.modules())


@pytest.mark.parametrize("model_type", CLASSES)
def test_counts_are_those_of_the_model(model_type: str) -> None:
    config = config_of(model_type)
    assert config.num_parameters(VOCAB) == sum(p.numel() for p in made(model_type).parameters())
    assert config.flops_per_token(VOCAB) > 6 * 2 * 4 * 32 * 16


@pytest.mark.parametrize("model_type", ["bloom", "mpt"])
def test_a_class_that_mixes_documents_is_refused_when_it_gets_some(model_type: str) -> None:
    sizes = {
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    }
    model = TransformersConfig(context_length=32, values={"model_type": model_type, **sizes[model_type]}).build(VOCAB)
    model.initialise(1)
    assert model(tokens(1, 8)).shape == (1, 8, VOCAB)
    segments, places = packed()
    with pytest.raises(ModelFileError, match="does not keep the documents of a row apart"):
        model(tokens(2, sum(LENGTHS)), segments=segments, positions=places)


def test_what_no_phase_could_train_is_refused_before_there_is_any_text() -> None:
    sizes = {"vocab_size": 10**6, "hidden_size": 32, "n_layer": 10**3, "n_head": 4}
    for values, words in (
        (
            {"model_type": "bloom", **sizes},
            "BloomForCausalLM does not keep the documents of a row apart, .* llama, qwen3",
        ),
        ({"model_type": "mamba"}, "carries a state through a row"),
        ({"model_type": "vit"}, "no causal model of type vit"),
    ):
        with pytest.raises(ModelFileError, match=words):
            TransformersConfig(context_length=32, values=values).require_trainable()
    deep = TransformersConfig(context_length=10**5, values={"model_type": "gpt_neox", **WIDE, "num_hidden_layers": 999})
    deep.require_trainable()
    assert deep.shallow().num_layers == 2 and deep.num_layers == 999
    local = {"num_layers": 12, "attention_types": [[["global", "local"], 6]], "num_heads": 4, "hidden_size": 32}
    TransformersConfig(context_length=32, values={"model_type": "gpt_neo", **local}).require_trainable()
    typed = ["sliding_attention", "full_attention"] * 3
    config = config_of("gemma2", num_hidden_layers=6, layer_types=typed)
    config.require_trainable()
    assert config.shallow().values["layer_types"] == typed[:2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "nothing"}, "transformers refuses its values"),
        ({"model_type": "vit"}, "no causal model of type vit"),
        ({"model_type": "mamba", "num_hidden_layers": 1}, "carries a state through a row"),
        ({"model_type": "t5"}, "more than a causal language model of text"),
        ({"model_type": "gpt_neox", "hidden_size": "wide"}, "transformers refuses its values"),
        ({"model_type": "gpt_neox", "hidden_size": 30, "num_attention_heads": 7}, "gpt_neox|GPTNeoX|refuses"),
    ],
)
def test_values_without_a_usable_class_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        TransformersConfig(context_length=8, values=values).build(VOCAB)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "chooses code"),
        ({"_attn_implementation": "someone/kernel"}, "chooses code"),
        ({"num_hidden_layers": 10**9}, "no number of layers"),
    ],
)
def test_values_that_choose_code_or_are_endless_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_of("gpt_neox", **values)


def test_a_context_beyond_the_models_is_refused() -> None:
    with pytest.raises(ModelFileError, match="context_length 65 is above the model's 64"):
        TransformersConfig(context_length=65, values=values_of("gpt_neox")).build(VOCAB)
