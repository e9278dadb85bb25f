"""A small tokenizer for all tests of the room, and text to feed it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer

AUSTEN = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife.\n\nHowever little known the feelings or views of such a man may be on his first entering a neighbourhood, "
    "this truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property "
    "of some one or other of their daughters.\n"
)
TEXTS = [
    AUSTEN,
    "user\nassistant\nsystem\n",
    "Größe 中文 naïve — “quoted” 12345\n\tindented  twice",
    AUSTEN.upper(),
] * 3


@pytest.fixture(autouse=True, scope="session")
def _no_fsync() -> Iterator[None]:
    """No test of this room cuts the power; waiting for the disk would be most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", params=["llama3", "gpt2"])
def tokenizer_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"tokenizer-{request.param}")
    train_tokenizer(TokenizerConfig(vocab_size=400, pattern=request.param), TEXTS, folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)
