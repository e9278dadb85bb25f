from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import (
    IGNORE,
    PackedConversations,
    PackedText,
    Row,
    Tokenizer,
    Turn,
    examples_of,
    write_conversations,
)
from groundup.tokens.shards import write_shards

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Text:
    text: str


@dataclass
class Talk:
    turns: list[Turn]


def check_segments(row: Row) -> None:
    """Segments count up from 0 without gaps; positions count from 0 in each."""
    assert row.segments[0] == 0
    assert set(np.diff(row.segments).tolist()) <= {0, 1}
    for segment in range(row.segments[-1] + 1):
        inside = row.positions[row.segments == segment]
        assert inside.tolist() == list(range(len(inside)))


@RELAXED
@given(st.lists(st.text(max_size=25), min_size=1, max_size=10), st.integers(2, 24), st.integers(16, 50))
def test_rows_of_text_are_the_stream_and_its_next_tokens(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, texts: list[str], context: int, shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("text")
    write_shards([Text(text) for text in texts], tokenizer, folder, shard_tokens)
    end = tokenizer.end_of_text_id
    stream = [token for text in texts for token in [end, *tokenizer.encode(text)]]
    packed = PackedText(folder, "text", context)
    rows = [packed.row(index) for index in range(packed.num_rows)]
    tokens, targets = np.concatenate([row.tokens for row in rows]), np.concatenate([row.targets for row in rows])
    assert tokens.tolist() == stream + [end] * (len(tokens) - len(stream))
    assert targets.tolist() == [*stream[1:], end] + [IGNORE] * (len(tokens) - len(stream))
    for row in rows:
        check_segments(row)
        assert (row.targets != IGNORE).any()
        inner = np.flatnonzero(np.diff(row.segments)) + 1
        assert (row.tokens[inner] == end).all(), "a segment starts where a document or the padding starts"
    real = len(stream)
    starts = sum(
        int(row.segments[: max(0, min(context, real - i * context))][-1:].sum()) + 1 for i, row in enumerate(rows)
    )
    cuts = sum(1 for i in range(1, packed.num_rows) if stream[i * context] != end)
    assert starts == len(texts) + cuts, "as many segments as documents, one more for each that a window cuts"
    assert packed.padding_share == pytest.approx(1 - real / len(tokens))


def test_dtypes_and_bounds(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards([Text("one two three " * 20)], tokenizer, tmp_path)
    packed = PackedText(tmp_path, "text", 16)
    row = packed.row(0)
    assert [plane.dtype for plane in row[:4]] == [np.int64, np.int64, np.int32, np.int32]
    for index in (-1, packed.num_rows):
        with pytest.raises(IndexError):
            packed.row(index)


def talks() -> list[Talk]:
    return [Talk([Turn("user", f"Question {i}?"), Turn("assistant", "word " * (i % 9) + str(i))]) for i in range(60)]


def test_examples_are_what_was_packed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_conversations(talks(), tokenizer, tmp_path, 64)
    packed = PackedConversations(tmp_path, "talks", 64)
    said = []
    for index in range(packed.num_rows):
        row = packed.row(index)
        check_segments(row)
        for ids, is_target in examples_of(row):
            assert len(ids) == len(is_target)
            learnt = [token for token, target in zip(ids, is_target) if target]
            assert learnt[-1] == tokenizer.turn_end_id
            said.append(tokenizer.decode(learnt).strip())
    assert sorted(said) == sorted(talk.turns[-1].text.strip() for talk in talks())


@pytest.mark.parametrize("change", [-1, 2])
def test_a_row_file_of_another_size_is_found_at_opening(tokenizer: Tokenizer, tmp_path: Path, change: int) -> None:
    write_conversations(talks(), tokenizer, tmp_path, 64)
    path = tmp_path / "rows-00000.bin"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"\0" * change)
    with pytest.raises(DataError, match=r"rows-00000.bin"):
        PackedConversations(tmp_path, "talks", 64)


@pytest.mark.parametrize("plane", [0, 1])
def test_an_id_outside_the_vocabulary_is_named(tokenizer: Tokenizer, tmp_path: Path, plane: int) -> None:
    write_conversations(talks(), tokenizer, tmp_path, 64)
    damaged = np.memmap(tmp_path / "rows-00000.bin", dtype="<u2", mode="r+").reshape(-1, 3, 64)
    damaged[1, plane, 5] = 400
    damaged.flush()
    packed = PackedConversations(tmp_path, "talks", 64)
    packed.row(0)
    with pytest.raises(DataError, match=r"rows-00000.bin: row 1 holds a token id outside the vocabulary of 400"):
        packed.row(1)


@pytest.mark.parametrize(("context", "vocab_size"), [(32, None), (64, 500)])
def test_another_context_or_vocabulary_is_refused(
    tokenizer: Tokenizer, tmp_path: Path, context: int, vocab_size: int | None
) -> None:
    write_conversations(talks(), tokenizer, tmp_path, 64)
    with pytest.raises(DataError, match="packed for context 64 and 400 tokens"):
        PackedConversations(tmp_path, "talks", context, vocab_size)


def test_a_row_is_made_in_well_under_a_tenth_of_a_millisecond(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards([Text("It is a truth universally acknowledged. " * 8)] * 200, tokenizer, tmp_path / "text")
    write_conversations(talks() * 10, tokenizer, tmp_path / "talks", 256)
    for rows in (PackedText(tmp_path / "text", "t", 256), PackedConversations(tmp_path / "talks", "c", 256)):
        laps = []
        for _ in range(20):
            start = time.process_time()
            for index in range(50):
                rows.row(index % rows.num_rows)
            laps.append((time.process_time() - start) / 50)
        assert min(laps) < 1e-4
