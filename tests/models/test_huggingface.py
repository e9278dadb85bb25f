from __future__ import annotations

import pytest
import torch

from groundup.errors import ModelFileError
from groundup.models import (
    Decoder,
    DecoderConfig,
    build_model,
    from_huggingface,
    huggingface_config,
    huggingface_shapes,
    to_huggingface,
)

VOCAB = 53
SHAPES = {
    "qwen3, grouped, embedding norm": {"qk_norm": True, "embedding_norm": True},
    "qwen3, tied, odd heads": {"qk_norm": True, "tied": True, "num_heads": 5, "num_kv_heads": 5, "hidden_size": 60},
    "qwen3, own head_dim": {"qk_norm": True, "num_heads": 7, "num_kv_heads": 1, "head_dim": 10},
    "llama, one key head, embedding norm": {
        "qk_norm": False,
        "embedding_norm": True,
        "num_heads": 3,
        "num_kv_heads": 1,
    },
    "llama, tied": {"qk_norm": False, "tied": True, "rope_theta": 500_000.0, "norm_epsilon": 1e-5},
}


def make(**changes: object) -> Decoder:
    base = {"context_length": 40, "num_layers": 2, "hidden_size": 48, "num_heads": 6, "num_kv_heads": 2, "ffn_size": 50}
    model = build_model(DecoderConfig(**{**base, **changes}), VOCAB)  # type: ignore[arg-type]
    model.initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.add_(spread * (0.3 if model.role(name) == "vector" else 0.05))
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_gives_the_same_logits(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
    model = make(**SHAPES[name])
    values = huggingface_config(model.config, VOCAB, eos_token_id=1)
    kind = {"qwen3": transformers.Qwen3ForCausalLM, "llama": transformers.LlamaForCausalLM}[values["model_type"]]
    assert values["architectures"] == [kind.__name__]
    native = kind(kind.config_class.from_dict(values)).eval()
    found = native.load_state_dict(to_huggingface(model.config, model.state_dict()), strict=False)
    assert found.unexpected_keys == [] and found.missing_keys == (["lm_head.weight"] if model.config.tied else [])
    tokens = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(native(tokens).logits, model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_there_and_back_is_the_same_function(name: str) -> None:
    model = make(**SHAPES[name])
    tensors = to_huggingface(model.config, model.state_dict())
    assert {key: tuple(value.shape) for key, value in tensors.items()} == huggingface_shapes(model.config, VOCAB)
    folded = model.config.model_copy(update={"embedding_norm": False})
    again = build_model(folded, VOCAB)
    again.load_state_dict(from_huggingface(folded, VOCAB, tensors))
    tokens = torch.randint(0, VOCAB, (1, 20))
    torch.testing.assert_close(again(tokens), model(tokens), atol=1e-5, rtol=1e-5)


def test_a_tied_model_may_bring_its_head() -> None:
    model = make(tied=True)
    tensors = to_huggingface(model.config, model.state_dict())
    state = from_huggingface(model.config, VOCAB, {**tensors, "lm_head.weight": model.embedding.weight})
    assert state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.norm.weight"), "model.norm.weight' is missing"),
        (lambda t: t.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(1)}), "not known"),
        (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), r"shape \[3\], config.json says \[48\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: object, words: str) -> None:
    model = make()
    tensors = to_huggingface(model.config, model.state_dict())
    change(tensors)  # type: ignore[operator]
    with pytest.raises(ModelFileError, match=words):
        from_huggingface(model.config, VOCAB, tensors)
