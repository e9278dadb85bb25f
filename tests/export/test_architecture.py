"""config.json: read back what is written; refuse what would be computed wrongly, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import ModelFileError, first_line
from groundup.export.architecture import read_architecture
from groundup.models import DecoderConfig, huggingface_config
from tests.export.random_models import random_values

WHERE = Path("config.json")
SIZES = {"context_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 48}
GOOD = huggingface_config(DecoderConfig(**SIZES), 300)
REMOVED = object()


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not REMOVED}


@given(
    qk_norm=st.booleans(),
    tied=st.booleans(),
    head_dim=st.sampled_from([None, 8, 16]),
    theta=st.floats(100, 1e6),
    epsilon=st.sampled_from([1e-5, 1e-6]),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_what_is_written_is_read_back(
    qk_norm: bool, tied: bool, head_dim: int | None, theta: float, epsilon: float, kv_heads: int
) -> None:
    sizes = {**SIZES, "num_kv_heads": kv_heads}
    config = DecoderConfig(
        **sizes, qk_norm=qk_norm, tied=tied, head_dim=head_dim, rope_theta=theta, norm_epsilon=epsilon
    )
    found, vocab_size, _ = read_architecture(huggingface_config(config, 300), WHERE)
    assert vocab_size == 300
    assert found.head_size == config.head_size
    assert found.model_copy(update={"head_dim": None}) == config.model_copy(update={"head_dim": None})


def test_older_files_may_leave_things_out() -> None:
    llama = huggingface_config(DecoderConfig(**{**SIZES, "num_kv_heads": 4}, qk_norm=False), 300)
    for key in ("head_dim", "num_key_value_heads", "rope_parameters", "rope_theta", "attention_bias", "mlp_bias"):
        del llama[key]
    config, _, _ = read_architecture(llama, WHERE)
    assert (config.num_kv_heads, config.head_size, config.rope_theta) == (4, 8, 10_000.0)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"auto_map": {"AutoConfig": "evil.Config"}}, "'auto_map' asks for code"),
        ({"trust_remote_code": True}, "'trust_remote_code' asks for code"),
        ({"model_type": "nothing"}, "model_type 'nothing' is not known"),
        ({"model_type": "gpt2"}, "use GPT2LMHeadModel"),
        ({"model_type": REMOVED}, "model_type 'None' is not known"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "use Qwen3ForCausalLM"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu'"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"use_sliding_window": "yes"}, "use_sliding_window"),
        ({"use_sliding_window": True, "max_window_layers": "1"}, "max_window_layers '1'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window is false"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0}}, "rope_parameters"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": "4"}}, "factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0}}, "high_freq_factor"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rope_parameters"),
        ({"rope_theta": 7.0}, "two values of rope_theta"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"is_causal": False}, "is_causal = 'False' is not supported, only True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"layer_types": ["chunked_attention"]}, "layer_types"),
        ({"layer_types": 7}, "layer_types"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers 2"),
        (
            {"layer_types": ["sliding_attention"] * 2, "use_sliding_window": True, "sliding_window": None},
            "sliding_window is null",
        ),
        ({"logit_scale": 0.1}, "unknown key 'logit_scale'"),
        ({"_attn_implementation_internal": "evil/kernel"}, "unknown key"),
        ({"line\nbreak\x1b[31m": 1}, "unknown key 'line.nbreak"),
        ({"hidden_size": REMOVED}, "no 'hidden_size'"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_heads"),
        ({"num_key_value_heads": 3}, "not a multiple of num_kv_heads 3"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rms_norm_eps": float("nan")}, "not a finite number"),
        ({"vocab_size": 0}, "vocab_size 0"),
        ({"vocab_size": True}, "vocab_size True"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_name(changes: dict[str, Any], finding: str) -> None:
    with pytest.raises(ModelFileError, match=finding) as caught:
        read_architecture(changed(**changes), WHERE)
    assert caught.value.message.startswith("config.json: ")
    assert not first_line(caught.value).endswith("...")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", [None, False, [], {}])
def test_an_unknown_key_that_says_nothing_is_let_pass(value: Any) -> None:
    assert read_architecture(changed(some_new_flag=value), WHERE) == read_architecture(GOOD, WHERE)


OLD_GENERATION = {"max_length": 20, "top_k": 50, "num_beams": 1, "repetition_penalty": 1.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "SmolLM2-135M-Instruct": {"transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}},
    "fine-tuned by Unsloth": {"unsloth_fixed": True, "unsloth_version": "2024.9"},
    "gpt2-medium": {"n_special": 0, "predict_special_tokens": True},
    "distilgpt2": {"_num_labels": 1, "output_past": True},
    "transformers 2": {**OLD_GENERATION, "num_labels": 2, "torchscript": False, "pruned_heads": {}},
    "Llama-2-13b, as it was first": {"pretraining_tp": 2},
    "whole heads rotated": {"partial_rotary_factor": 1.0, "is_causal": True},
    "numbers that its way of scaling does not look at": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "factor": None, "finetuned": True}
    },
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_notes_that_published_models_carry_change_nothing(model: str) -> None:
    assert read_architecture(changed(**PUBLISHED[model]), WHERE) == read_architecture(GOOD, WHERE)


@pytest.mark.parametrize("window", [None, 7])
def test_a_window_that_is_null_is_none_as_transformers_has_it(window: int | None) -> None:
    found, _, _ = read_architecture(
        changed(use_sliding_window=True, max_window_layers=0, sliding_window=window, max_position_embeddings=8192),
        WHERE,
    )
    assert isinstance(found, DecoderConfig) and found.sliding_window == window


def test_of_two_mappings_of_rotary_positions_the_one_that_counts_has_the_base() -> None:
    """transformers takes the older mapping whole, so a base that only the newer one has would not be heard there."""
    scaling = {"rope_type": "linear", "factor": 2.0}
    both = changed(rope_theta=REMOVED, rope_scaling=scaling, rope_parameters={**scaling, "rope_theta": 5e5})
    with pytest.raises(ModelFileError, match=r"two values of rope_theta, 10000\.0 and 500000\.0"):
        read_architecture(both, WHERE)
    found, _, _ = read_architecture({**both, "rope_scaling": {**scaling, "rope_theta": 5e5}}, WHERE)
    assert isinstance(found, DecoderConfig) and found.rope_theta == 5e5


@pytest.mark.parametrize("family", ["gpt2", "xglm"])
def test_the_names_that_other_classes_have_for_a_key_are_read_too(family: str) -> None:
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 32}
    of_the_class = {
        "gpt2": ("n_embd", "n_layer", "n_head", "n_positions"),
        "xglm": ("d_model", "num_layers", "attention_heads", "max_position_embeddings"),
    }[family]
    own = dict(zip(of_the_class, sizes.values()))
    first = {"model_type": family, "vocab_size": 40, **({"ffn_dim": 16} if family == "xglm" else {})}
    assert read_architecture({**first, **sizes}, WHERE) == read_architecture({**first, **own}, WHERE)
    with pytest.raises(ModelFileError, match="unknown key 'hidden_size'"):
        read_architecture({**first, **own, "hidden_size": 13}, WHERE)


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("gpt2", "tie_word_embeddings"),
        ("gpt2", "scale_attn_weights"),
        ("opt", "do_layer_norm_before"),
        ("opt", "enable_bias"),
        ("xglm", "scale_embedding"),
        ("llama", "mlp_bias"),
        ("qwen2", "use_sliding_window"),
        ("mistral", "is_causal"),
    ],
)
def test_a_null_is_not_taken_for_a_yes_or_no(family: str, key: str) -> None:
    """transformers 4 took it for no, whatever the default was; 5 refuses it."""
    values = random_values(family, 2)
    with pytest.raises(ModelFileError, match=f"{key} = 'None' is ") as caught:
        read_architecture({**values, key: None}, WHERE)
    assert not first_line(caught.value).endswith("...")
