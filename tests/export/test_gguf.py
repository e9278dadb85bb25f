"""GGUF: the same logits as the model it was made of; quantised ones nearly; spoilt files are refused in one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import GroundupError, ModelFileError, first_line
from groundup.export.gguf_tokenizer import gguf_tokenizer
from groundup.export.load import load_model
from groundup.export.source import open_source
from groundup.models import Decoder, DecoderConfig, build_model
from groundup.models.rotary import Llama3Scaling, frequencies, llama3
from tests.export.gguf_files import file_of, gguf_bytes

SIZES = {"context_length": 32, "num_layers": 2, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 96}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"qk_norm": False, "tied": True},
    "qwen2": {"qk_norm": False, "attention_bias": "qkv", "rope_theta": 500_000.0},
    "qwen3": {"qk_norm": True, "head_dim": 8},
}
VOCAB = 40


def make(kind: str, **switches: Any) -> Decoder:
    model = build_model(DecoderConfig(**{**SIZES, **KINDS[kind], **switches}), VOCAB)
    model.initialise(4)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.05)
    return model.eval()


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


@torch.no_grad()
@pytest.mark.parametrize(("form", "tolerance"), [("F32", 1e-6), ("F16", 1e-2), ("BF16", 5e-2), ("Q8_0", 0.15)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_logits_of_its_model(kind: str, form: str, tolerance: float, tmp_path: Path) -> None:
    if form == "Q8_0":
        pytest.importorskip("gguf", reason="gguf is not installed (extra 'gguf')")
    model = make(kind)
    loaded = load_model(write(tmp_path, file_of(model, form, kind)), need_tokenizer=False)
    tokens = torch.randint(0, VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loaded.logits(tokens), model(tokens), atol=tolerance, rtol=0.0)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "switches"), [("llama", {"ffn_bias": True}), ("llama", {}), ("qwen3", {})])
def test_biases_are_known_by_their_tensors(kind: str, switches: dict[str, Any], tmp_path: Path) -> None:
    """llama.cpp turns the rows of biases as it turns those of matrices, and says of neither that it is there."""
    model = make(kind, attention_bias="all", **switches)
    loaded = load_model(write(tmp_path, file_of(model, architecture=kind)), need_tokenizer=False)
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(loaded.logits(tokens), model(tokens), atol=1e-6, rtol=0.0)


@torch.no_grad()
def test_the_factors_of_llama_3_are_its_scaling(tmp_path: Path) -> None:
    """llama.cpp writes what each angle is divided by; the known parameters give these factors, others are refused."""
    scaling = Llama3Scaling(factor=32.0, original_context_length=8192)
    config = DecoderConfig(**SIZES, qk_norm=False, head_dim=16, rope_theta=500_000.0, rope_scaling=scaling)
    model = build_model(config, VOCAB)
    model.initialise(1)
    plain = frequencies(16, 500_000.0, torch.device("cpu"))
    factors = plain / llama3(plain, scaling, 8192)
    loaded = load_model(write(tmp_path, file_of(model, factors=factors)), need_tokenizer=False)
    assert loaded.model.config.rope_scaling == scaling
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(loaded.logits(tokens), model(tokens), atol=1e-6, rtol=0.0)
    with pytest.raises(ModelFileError, match="stretched in a way that is not read"):
        load_model(write(tmp_path, file_of(model, factors=factors * 2)), need_tokenizer=False)


def test_the_identity_is_the_content(tmp_path: Path) -> None:
    data = file_of(make("llama"))
    one = open_source(write(tmp_path, data)).identity()
    assert open_source(write(tmp_path, data)).identity() == one
    assert open_source(write(tmp_path, data[:-1] + bytes([data[-1] ^ 1]))).identity() != one


GOOD = file_of(make("llama"))


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (b"", "too short"),
        (GOOD[:60], "its header ends too early"),
        (GOOD[:-4000], "ends behind the file"),
        (b"GGML" + GOOD[4:], "not a GGUF file"),
        (GOOD[:4] + struct.pack("<I", 9) + GOOD[8:], "not a GGUF file"),
        (GOOD[:8] + struct.pack("<Q", 2**60) + GOOD[16:], "claims 1152921504606846976 entries"),
        (gguf_bytes({"general.architecture": "mamba"}, {}), "architecture 'mamba' is not known"),
        (gguf_bytes({"general.architecture": "llama"}, {}), "no number 'llama.attention.head_count'"),
        (file_of(make("llama"), **{"llama.rope.scaling.type": "yarn"}), "stretched"),
        (file_of(make("llama"), **{"llama.logit_scale": 2.0}), "unknown key 'llama.logit_scale'"),
        (file_of(make("llama"), **{"llama.block_count": 3}), r"layers\.2\.input_layernorm\.weight' is missing"),
        (file_of(make("llama"), **{"llama.feed_forward_length": 95}), r"config.json says \[95, 64\]"),
    ],
)
def test_spoilt_files_are_refused(data: bytes, finding: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=finding) as caught:
        load_model(write(tmp_path, data), need_tokenizer=False)
    assert not first_line(caught.value).endswith("...")


@settings(max_examples=60)
@given(at=st.integers(0, 1500), byte=st.integers(0, 255), cut=st.integers(0, 3000))
def test_whatever_the_bytes_say_it_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, cut: int
) -> None:
    data = bytearray(GOOD)
    data[at] = byte
    path = write(tmp_path_factory.mktemp("gguf"), bytes(data[: len(data) - cut]))
    try:
        load_model(path, need_tokenizer=False)
    except GroundupError as error:
        assert "\n" not in first_line(error)


def test_the_tokenizer_keeps_its_ids(tmp_path: Path) -> None:
    alphabet = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    tokens = ["<|endoftext|>", "<|im_end|>", *alphabet, "Ġt", "he", "Ġthe"]
    merges = ["Ġ t", "h e", "Ġt he"]
    types = [3, 3, *[1] * (len(tokens) - 2)]
    metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens}
    metadata |= {"tokenizer.ggml.merges": merges, "tokenizer.ggml.token_type": types}
    found = gguf_tokenizer(metadata, tmp_path)
    assert found.encode("the the 12") == [tokens.index(t) for t in ("t", "he", "Ġthe", "Ġ", "1", "2")]
    assert found.decode(found.encode("naïve 北京\n")) == "naïve 北京\n"
    assert (found.end_of_text_id, found.turn_end_id) == (0, 1)
    for spoilt in ({"tokenizer.ggml.model": "llama"}, {"tokenizer.ggml.pre": "x"}, {"tokenizer.ggml.merges": [1]}):
        with pytest.raises(ModelFileError, match="--tokenizer"):
            gguf_tokenizer({**metadata, **spoilt}, tmp_path)
