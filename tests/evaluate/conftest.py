"""A tokenizer, a random model and packed text: small, but real parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from groundup.models import Decoder, DecoderConfig, build_model
from groundup.tokens import PackedText, Tokenizer, TokenizerConfig, train_tokenizer, write_shards

CONTEXT_LENGTH = 48
LINES = ["What is the capital of France? Paris.", "Zürich 北京 naïve café", "the cat sat on the mat", "1815, Emma"]


@dataclass(frozen=True)
class Text:
    """A document, as far as shards need it."""

    text: str


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads only wait for each other on models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=300), LINES * 3, folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Decoder:
    config = DecoderConfig(
        context_length=CONTEXT_LENGTH, num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, ffn_size=48
    )
    decoder = build_model(config, tokenizer.vocab_size)
    decoder.initialise(seed=3)
    with torch.no_grad():
        decoder.head.weight.mul_(10.0)
    return decoder.eval()


@pytest.fixture
def packed(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., PackedText]:
    """Documents -> rows of the model's context."""

    def pack(*documents: str, name: str = "validation") -> PackedText:
        write_shards([Text(text) for text in documents], tokenizer, tmp_path / name)
        return PackedText(tmp_path / name, name, CONTEXT_LENGTH)

    return pack
