"""A tokenizer and random models in both layouts: small, but real parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from groundup.export import save_model
from groundup.models import Decoder, DecoderConfig, build_model
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
LINES = ["What is the capital of France? Paris.", "Zürich 北京 naïve café", "the cat sat on the mat", "1815, Emma"]
LAYOUTS = {
    "qwen3": {"qk_norm": True, "embedding_norm": True, "num_kv_heads": 2},
    "llama": {"qk_norm": False, "tied": True, "num_kv_heads": 4, "rope_theta": 5000.0},
    "wide": {"qk_norm": True, "head_dim": 16, "num_kv_heads": 1, "norm_epsilon": 1e-5},
}


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
def make_model(tokenizer: Tokenizer) -> Callable[[str], Decoder]:
    """Layout -> a random model, with norms that are not all one."""

    def make(layout: str) -> Decoder:
        sizes = {"context_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 4, "ffn_size": 48}
        decoder = build_model(DecoderConfig(**sizes, **LAYOUTS[layout]), tokenizer.vocab_size)
        decoder.initialise(seed=3)
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in decoder.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
        return decoder.eval()

    return make


@pytest.fixture(scope="session")
def exported(
    make_model: Callable[[str], Decoder], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A good folder, to be copied and not changed."""
    folder: Path = tmp_path_factory.mktemp("exported") / "model"
    save_model(make_model("qwen3"), tokenizer, folder, with_transformers=False)
    return folder
