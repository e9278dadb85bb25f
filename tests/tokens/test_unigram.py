from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError, RecipeError
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from groundup.tokens.tokenizer_file import CONTROL_TOKENS
from tests.tokens.conftest import TEXTS

pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: pip install 'groundup[unigram]'")

PATTERNS = get_args(TokenizerConfig.model_fields["pattern"].annotation)
SMALLEST = 256 + len(CONTROL_TOKENS)
UNIGRAM = TokenizerConfig(model="unigram", vocab_size=400)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.sampled_from([*CONTROL_TOKENS, "▁", "<unk>", "▁unknown▁", "<0x41>", "😀", "\x00", "\x000", "  "])


@pytest.fixture(scope="module", params=PATTERNS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unigram")
    train_tokenizer(UNIGRAM.model_copy(update={"pattern": request.param}), TEXTS, folder)
    return folder


@RELAXED
@given(text=st.lists(st.text() | ODD).map("".join))
def test_any_text_round_trips_without_a_control_token(folder: Path, text: str) -> None:
    tokenizer = Tokenizer.load(folder)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, skip_control=False) == text
    assert not tokenizer.control_ids.intersection(ids)


def test_word_by_word_gives_the_same_ids(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Tokenizer.load(folder).encode_batch(TEXTS)
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
    assert Tokenizer.load(folder).encode_batch(TEXTS) == expected


def test_words_become_tokens(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    assert len(tokenizer.encode(TEXTS[0])) < 0.6 * len(TEXTS[0])


@pytest.mark.parametrize("vocab_size", [SMALLEST, SMALLEST + 1, 300, 2000])
def test_the_vocabulary_has_exactly_the_size_asked_for(tmp_path: Path, vocab_size: int) -> None:
    config = UNIGRAM.model_copy(update={"vocab_size": vocab_size})
    summary = train_tokenizer(config, TEXTS, tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == vocab_size == summary["vocab_size"]
    assert summary["pieces"] + summary["reserved"] == vocab_size - SMALLEST


def test_the_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        train_tokenizer(UNIGRAM, TEXTS, tmp_path / name)
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_no_text_and_no_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="train split is empty"):
        train_tokenizer(UNIGRAM, [""], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"groundup\[unigram\]"):
        train_tokenizer(UNIGRAM, TEXTS, tmp_path)


def test_rare_words_are_dropped_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.tokens.unigram.COUNTED_WORDS", 20)
    train_tokenizer(UNIGRAM, [*TEXTS, *(f"rare{i}" for i in range(100))], tmp_path)
    assert len(Tokenizer.load(tmp_path).encode(" truth")) == 1


def test_transformers_reads_the_same_tokenizer(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    other, tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder)), Tokenizer.load(folder)
    assert len(other) == tokenizer.vocab_size
    for text in ("", "It is a truth", "  two\n\n\nlines \t12345", "Größe 中文 'S ▁ 😀"):
        assert other(text)["input_ids"] == tokenizer.encode(text)
        assert other.decode(tokenizer.encode(text)) == text
