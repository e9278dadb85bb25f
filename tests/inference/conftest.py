"""A tokenizer trained on a few lines and a random model: small, but real parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from groundup.models import Decoder, DecoderConfig, build_model
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer

LINES = ["What is the capital of France? Paris.", "Zürich 北京 naïve café", "the cat sat on the mat", "1815, Emma"]


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
    config = DecoderConfig(context_length=96, num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, ffn_size=48)
    decoder = build_model(config, tokenizer.vocab_size)
    decoder.initialise(seed=3)
    with torch.no_grad():  # a random head this small would say the same token for ever
        decoder.head.weight.mul_(50.0)
    return decoder.eval()
