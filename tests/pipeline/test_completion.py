"""A model folder answers prompts for augmentation, the same for the same seed."""

from pathlib import Path

import pytest

from groundup.corpus.augment import Refused, RewriteConfig
from groundup.errors import DataError
from groundup.export import save_model
from groundup.models import DecoderConfig, build_model
from groundup.pipeline.completion import complete_with
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train_tokenizer(TokenizerConfig(vocab_size=300), ["some text to learn from"] * 3, tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    sizes = {
        "context_length": 64,
        "num_layers": 1,
        "hidden_size": 32,
        "num_heads": 2,
        "num_kv_heads": 2,
        "ffn_size": 48,
    }
    model = build_model(DecoderConfig(**sizes), tokenizer.vocab_size)
    model.initialise(seed=1)
    save_model(model.eval(), tokenizer, tmp_path / "model", with_transformers=False)
    return tmp_path / "model"


def test_prompt_and_seed_decide_the_answer(folder: Path) -> None:
    config = RewriteConfig(name="r", fraction=1.0, model_folder=str(folder), max_tokens=16, temperature=2.0)
    complete = complete_with(config)
    answers = {complete("some text", seed) for seed in (1, 1, 2, 3)}
    assert complete("some text", 1) in answers
    assert 1 < len(answers) <= 3
    with pytest.raises(Refused, match="longer than"):
        complete("some text " * 200, 1)


def test_no_folder() -> None:
    with pytest.raises(DataError, match="no such folder"):
        complete_with(RewriteConfig(name="r", fraction=1.0, model_folder="nowhere"))
