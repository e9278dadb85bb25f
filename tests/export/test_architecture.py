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
        ({"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window is false"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0}}, "rope_parameters"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": "4"}}, "factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0}}, "high_freq_factor"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rope_parameters"),
        ({"rope_theta": 7.0}, "two values of rope_theta"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"layer_types": ["chunked_attention"]}, "layer_types"),
        ({"layer_types": 7}, "layer_types"),
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
