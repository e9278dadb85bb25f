"""Rows for encoders: every token once, framed; pairs by arithmetic; heads in their planes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from groundup.errors import DataError, ModelFileError
from groundup.tokens import (
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    IGNORE,
    EncoderText,
    Masking,
    MaskingConfig,
    Mixture,
    MixtureSource,
    Tokenizer,
    TokenizerConfig,
    WordStarts,
    train_tokenizer,
    write_shards,
)

WORDS = ("river", "stone", "winter", "garden", "letter", "morning")


@dataclass
class Text:
    text: str


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [" ".join(WORDS[(i + j) % 6] for j in range(30)) for i in range(20)]
    train_tokenizer(TokenizerConfig(vocab_size=300), texts, folder, (*CONTROL_TOKENS, *ENCODER_TOKENS))
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve documents, each of one word of its own."""
    target = tmp_path_factory.mktemp("shards") / "text"
    documents = [Text(" ".join([WORDS[i % 6]] * (3 + 7 * (i % 4)))) for i in range(12)]
    write_shards(documents, tokenizer, target, shard_tokens=64)
    return target


def rows_of(folder: Path, tokenizer: Tokenizer, *, pairs: bool, share: float = 0.15) -> EncoderText:
    ids = tokenizer.need_encoder_ids()
    masking = Masking(MaskingConfig(share=share, masked=0.0, replaced=0.0), WordStarts(tokenizer), ids.mask, seed=1)
    return EncoderText(folder, "text", 24, ids, masking, pairs=pairs)


def test_every_token_of_the_stream_is_in_one_row(folder: Path, tokenizer: Tokenizer) -> None:
    rows, ids = rows_of(folder, tokenizer, pairs=False), tokenizer.need_encoder_ids()
    stream = rows.shards.window(0, rows.num_tokens).tolist()
    assert stream[0] == ids.cls
    assert stream[-1] == ids.sep
    ordinary = [token for token in stream if token not in tokenizer.control_ids]
    found = []
    for index in range(rows.num_rows):
        row = rows.row(index)
        assert row.tokens[0] == ids.cls
        text = row.tokens[row.tokens != ids.pad]
        assert text[-1] == ids.sep
        assert ((row.tokens == ids.cls) == (row.positions == 0))[: len(text)].all()
        assert (row.segments[len(text) :] == row.segments.max()).all()
        found += [token for token in row.tokens.tolist() if token not in tokenizer.control_ids]
    assert found == ordinary


def test_pairs_follow_or_come_from_elsewhere(folder: Path, tokenizer: Tokenizer) -> None:
    rows, ids = rows_of(folder, tokenizer, pairs=True), tokenizer.need_encoder_ids()
    labels = []
    for index in range(rows.num_rows):
        for draw in range(12):
            row = rows.drawn(index, draw)
            assert row.targets.shape == (2, 24)
            for start in np.flatnonzero(row.targets[1] != IGNORE).tolist():
                own = row.segments == row.segments[start]
                assert row.tokens[start] == ids.cls
                assert (row.tokens[own] == ids.sep).sum() == 2
                assert row.parts is not None
                words = [
                    set(tokenizer.decode(row.tokens[own & (row.parts == part)].tolist()).split()) for part in (0, 1)
                ]
                labels.append(int(row.targets[1, start]))
                # A piece of a window may begin in the middle of a word, so only whole words are compared.
                known = [found & set(WORDS) for found in words]
                if labels[-1] == 0 and all(known):
                    assert known[0] == known[1], "the second text goes on with the document"
    assert 0.3 < np.mean(labels) < 0.7


def test_what_is_drawn_depends_on_the_use_only(folder: Path, tokenizer: Tokenizer) -> None:
    one, other = (rows_of(folder, tokenizer, pairs=True) for _ in range(2))
    for draw in (7, 3):
        first, second = one.drawn(1, draw), other.drawn(1, draw)
        assert all((a == b).all() for a, b in zip(first, second, strict=True) if a is not None and b is not None)
    assert any((one.drawn(1, 3).targets != one.drawn(1, draw).targets).any() for draw in range(4, 8))


def test_the_mixture_draws_anew_at_every_step(folder: Path, tokenizer: Tokenizer) -> None:
    mixture = Mixture([MixtureSource(rows_of(folder, tokenizer, pairs=True), 1.0)], 4, seed=5)
    whole = mixture.batch(3, 0, 4)
    assert whole.parts is not None
    halves = [mixture.batch(3, first, 2) for first in (0, 2)]
    assert (whole.targets == np.concatenate([half.targets for half in halves])).all(), "micro-batches change nothing"
    assert whole.inputs().keys() == {"tokens", "segments", "positions", "parts"}
    assert (whole.token_targets == whole.targets[:, 0]).all()


def test_shards_of_a_decoder_are_refused(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=300), ["a river"], tmp_path)
    plain = Tokenizer.load(tmp_path)
    with pytest.raises(ModelFileError, match="no \\[PAD\\]"):
        plain.need_encoder_ids()
    write_shards([Text("a river " * 9)], plain, tmp_path / "s")
    with pytest.raises(DataError, match="another tokenizer"):
        rows_of(tmp_path / "s", tokenizer, pairs=False)
