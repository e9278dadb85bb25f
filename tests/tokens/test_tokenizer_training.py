from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.errors import DataError
from groundup.tokens import CHAT_TEMPLATE, Tokenizer, TokenizerConfig, train_tokenizer
from groundup.tokens.tokenizer_file import CONTROL_TOKENS

TEXTS = [f"the cat number {i} sat on the mat; the dog did not.\n" for i in range(200)]
SMALLEST = 256 + len(CONTROL_TOKENS)
FILES = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


def test_the_same_texts_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=320), TEXTS, here)
    program = (
        "import sys, pathlib; from groundup.tokens.tokenizer_training import *;"
        "texts = [f'the cat number {i} sat on the mat; the dog did not.\\n' for i in range(200)];"
        "train_tokenizer(TokenizerConfig(vocab_size=320), texts, pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(there)], check=True)
    assert sorted(path.name for path in here.iterdir()) == FILES
    for name in FILES:
        assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.parametrize("vocab_size", [SMALLEST, SMALLEST + 1, 290])
def test_the_vocabulary_has_exactly_the_size_asked_for(tmp_path: Path, vocab_size: int) -> None:
    summary = train_tokenizer(TokenizerConfig(vocab_size=vocab_size), TEXTS, tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == vocab_size == summary["vocab_size"]
    assert summary["merges"] == vocab_size - SMALLEST
    assert summary["reserved"] == 0


def test_little_text_is_filled_up_with_reserved_tokens_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="groundup"):
        summary = train_tokenizer(TokenizerConfig(vocab_size=1000), ["aaaa bbbb aaaa bbbb"], tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 1000
    assert summary["reserved"] + summary["merges"] + SMALLEST == 1000
    assert len(tokenizer.control_ids) == len(CONTROL_TOKENS) + summary["reserved"]
    assert not tokenizer.control_ids.intersection(tokenizer.encode("<|reserved_0|>"))
    assert f"{summary['reserved']} are reserved" in caplog.text


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="train split is empty"):
        train_tokenizer(TokenizerConfig(), texts, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_an_error_of_the_texts_themselves_is_passed_on(tmp_path: Path) -> None:
    def broken() -> object:
        yield "some text"
        raise DataError("shard 7 is damaged")

    with pytest.raises(DataError, match="shard 7"):
        train_tokenizer(TokenizerConfig(), broken(), tmp_path)  # type: ignore[arg-type]


def test_no_token_is_longer_than_asked(tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=330, max_token_bytes=5), ["=" * 3000 + " wonderful" * 100], tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert (
        max(len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size) if i not in tokenizer.control_ids) <= 5
    )


def test_transformers_reads_the_same_tokenizer(tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    other = transformers.AutoTokenizer.from_pretrained(str(tokenizer_folder))
    assert len(other) == tokenizer.vocab_size
    assert (other.bos_token_id, other.eos_token_id) == (tokenizer.end_of_text_id, tokenizer.turn_end_id)
    assert other.pad_token_id == tokenizer.end_of_text_id
    assert other.chat_template == CHAT_TEMPLATE
    for text in [
        "",
        "It is a truth",
        "  two\n\n\nlines \t12345",
        "Größe 中文 'S it's",
        "user\nassistant",
        " \r\n \x1c\x85a",
    ]:
        ids = tokenizer.encode(text)
        assert other(text)["input_ids"] == ids
        assert other.decode(ids) == text
    assert other("a<|end|>")["input_ids"][-1] == tokenizer.turn_end_id, "a control token for transformers' users"
    assert sorted(other.all_special_ids) == sorted(tokenizer.control_ids)


def test_the_config_file_names_every_control_token(tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    settings = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert {int(index) for index in settings["added_tokens_decoder"]} == tokenizer.control_ids
    assert settings["chat_template"] == (tokenizer_folder / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_a_signal_is_answered_while_text_is_read(tmp_path: Path, model: str) -> None:
    if model == "unigram":
        pytest.importorskip("sentencepiece")
    read = []

    class Stop(KeyboardInterrupt):
        pass

    def stop(*given: object) -> None:
        raise Stop

    def texts() -> Iterator[str]:
        for number in range(4000):
            read.append(number)
            if number == 300:
                os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(0.001)
            yield f"document {number}"

    earlier = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(Stop):
            train_tokenizer(TokenizerConfig(model=model, vocab_size=300), texts(), tmp_path)
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert 300 < len(read) < 2000, "training went on to the last text"
