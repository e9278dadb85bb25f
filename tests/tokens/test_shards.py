from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import (
    Mixture,
    MixtureSource,
    PackedText,
    Tokenizer,
    write_shards,
)
from groundup.tokens.arrays import token_dtype
from groundup.tokens.shards import INDEX_FILE, SHARD_TOKENS, TokenShards


@dataclass
class Text:
    text: str


class Killed(Exception):
    """Stands for kill -9: nothing is tidied up."""


def texts(count: int = 40) -> list[Text]:
    return [Text(f"Document {i} says: " + "a truth, universally. " * (i % 7)) for i in range(count)]


def expected_stream(tokenizer: Tokenizer, documents: list[Text]) -> list[int]:
    return [token for document in documents for token in [tokenizer.end_of_text_id, *tokenizer.encode(document.text)]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.integers(4, 60))
def test_the_stream_is_the_documents_in_order(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, some_texts: list[str], shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    documents = [Text(text) for text in some_texts]
    summary = write_shards(documents, tokenizer, folder, shard_tokens)
    shards, stream = TokenShards(folder, tokenizer.vocab_size), expected_stream(tokenizer, documents)
    assert shards.window(0, shards.num_tokens).tolist() == stream
    assert summary["tokens"] == shards.num_tokens == len(stream)
    assert summary["shards"] == -(-len(stream) // shard_tokens)
    assert summary["text_bytes"] == shards.text_bytes == sum(len(text.encode()) for text in some_texts)
    assert shards.documents()[:, 1].tolist() == [len(text.encode()) for text in some_texts]
    assert [stream[start] for start in shards.documents()[:, 0]] == [tokenizer.end_of_text_id] * len(documents)
    assert stream.count(tokenizer.end_of_text_id) == summary["documents"] == len(documents)


@pytest.mark.parametrize("killed_at", range(0, 40, 3))
def test_killed_and_resumed_gives_the_same_bytes_and_keeps_whole_shards(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr("groundup.tokens.encoding.BATCH_DOCUMENTS", 2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_shards(texts(), tokenizer, whole, 100)

    def until_killed() -> Iterator[Text]:
        yield from texts()[:killed_at]
        raise Killed

    with pytest.raises(Killed):
        write_shards(until_killed(), tokenizer, resumed, 100)
    before = {path: path.stat().st_mtime_ns for path in resumed.glob("*.bin")} if resumed.exists() else {}
    write_shards(texts(), tokenizer, resumed, 100)
    assert contents(resumed) == contents(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("lost", [["index.json"], ["index.json", "documents.bin"]])
def test_killed_while_closing(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: list[str]
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_shards(texts(), tokenizer, whole, 100)
    with monkeypatch.context() as patch:
        patch.setattr("groundup.tokens.shards.remove_marks", lambda folder: None)
        write_shards(texts(), tokenizer, resumed, 100)
    for name in lost:
        (resumed / name).unlink()
    (resumed / "tokens-00003.bin.tmp").write_bytes(b"half")
    write_shards(texts(), tokenizer, resumed, 100)
    (resumed / "tokens-00003.bin.tmp").unlink(missing_ok=True)
    assert contents(resumed) == contents(whole)


def test_a_finished_folder_is_not_written_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = write_shards(texts(), tokenizer, tmp_path, 100)

    def never() -> Iterator[Text]:
        raise AssertionError("read again")
        yield

    assert write_shards(never(), tokenizer, tmp_path, 100) == first


def test_fewer_documents_than_before_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.tokens.encoding.BATCH_DOCUMENTS", 2)

    def until_killed() -> Iterator[Text]:
        yield from texts()[:30]
        raise Killed

    with pytest.raises(Killed):
        write_shards(until_killed(), tokenizer, tmp_path, 100)
    with pytest.raises(DataError, match="only 3 documents"):
        write_shards(texts(3), tokenizer, tmp_path, 100)


def test_no_documents_leave_no_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert write_shards([], tokenizer, tmp_path / "none")["documents"] == 0
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match=r"no index\.json"):
        TokenShards(tmp_path / "none")


@pytest.mark.parametrize("name", ["tokens-00001.bin", "documents.bin"])
@pytest.mark.parametrize("change", [-1, -64, 2, None])
def test_a_file_of_another_size_is_found_at_opening(
    tokenizer: Tokenizer, tmp_path: Path, name: str, change: int | None
) -> None:
    write_shards(texts(), tokenizer, tmp_path, 100)
    path = tmp_path / name
    if change is None:
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:change] if change < 0 else data + b"\0" * change)
    with pytest.raises(DataError, match=name):
        TokenShards(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"tokens": "many"}', "\x00"])
def test_a_damaged_index_is_refused(tokenizer: Tokenizer, tmp_path: Path, text: str) -> None:
    write_shards(texts(), tokenizer, tmp_path, 100)
    (tmp_path / INDEX_FILE).write_text(text)
    with pytest.raises(DataError, match=INDEX_FILE):
        TokenShards(tmp_path)


def test_an_id_outside_the_vocabulary_is_named_with_shard_and_offset(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(texts(), tokenizer, tmp_path, 100)
    damaged = np.memmap(tmp_path / "tokens-00002.bin", dtype="<u2", mode="r+")
    damaged[17] = 60_000
    damaged.flush()
    shards = TokenShards(tmp_path)
    shards.window(150, 217)
    with pytest.raises(
        DataError, match=r"tokens-00002.bin: token id 60000 at offset 17 is outside the vocabulary of 400"
    ):
        shards.window(150, 218)


def large_folder(folder: Path, num_tokens: int, num_documents: int) -> Path:
    """Shards without content: sparse files, so a thousand million tokens take no room on the disk."""
    folder.mkdir()
    sizes = [min(SHARD_TOKENS, num_tokens - start) for start in range(0, num_tokens, SHARD_TOKENS)]
    for i, size in enumerate(sizes):
        with (folder / f"tokens-{i:05d}.bin").open("wb") as handle:
            handle.truncate(2 * size)
    with (folder / "documents.bin").open("wb") as handle:
        handle.truncate(16 * num_documents)
    counts = {"documents": num_documents, "tokens": num_tokens, "text_bytes": 4 * num_tokens, "shards": len(sizes)}
    layout = {"shard_tokens": SHARD_TOKENS, "dtype": "<u2", "vocab_size": 400, "end_of_text_id": 1}
    (folder / INDEX_FILE).write_text(json.dumps({**counts, **layout}))
    return folder


def test_opening_and_a_batch_cost_the_same_however_much_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes read, files opened and memory: a thousand million tokens against a thousandth of it."""
    asked: list[int] = []
    real = os.pread
    monkeypatch.setattr(
        os, "pread", lambda number, length, start: (asked.append(length), real(number, length, start))[1]
    )
    found = []
    for name, num_tokens, num_documents in (("small", 10**6, 10**3), ("large", 10**9, 10**6)):
        folder = large_folder(tmp_path / name, num_tokens, num_documents)
        asked.clear()
        tracemalloc.start()
        mixed = Mixture([MixtureSource(PackedText(folder, "text", 512), 1.0)], 16, seed=1)
        opened = len(asked)
        mixed.batch(10**6, 0, 16)
        found.append((opened, list(asked), tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    (small_opened, small_asked, small_bytes), (large_opened, large_asked, large_bytes) = found
    assert small_opened == large_opened == 0, "opening reads the index, and looks at sizes"
    assert small_asked == large_asked == [513 * 2] * 16
    assert large_bytes < small_bytes + 200_000, "120 paths, nothing per document or token"


def test_another_vocabulary_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(texts(), tokenizer, tmp_path)
    with pytest.raises(DataError, match="vocabulary of 400, the model has 500"):
        TokenShards(tmp_path, vocab_size=500)


def test_storage_holds_every_id() -> None:
    assert (token_dtype(65_536), token_dtype(65_537)) == ("<u2", "<u4")


def test_the_index_is_plain_json(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(texts(), tokenizer, tmp_path, 100)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["dtype"] == "<u2"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin"] * (index["shards"] + 1) + [".json"]


@pytest.mark.parametrize("victim", ["tokens-00001.bin", "tokens-00001.json"])
def test_a_bit_that_flips_between_two_attempts_costs_the_shard_and_no_more(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    monkeypatch.setattr("groundup.tokens.encoding.BATCH_DOCUMENTS", 2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_shards(texts(), tokenizer, whole, 100)

    def until_killed() -> Iterator[Text]:
        yield from texts()[:30]
        raise Killed

    with pytest.raises(Killed):
        write_shards(until_killed(), tokenizer, resumed, 100)
    content = bytearray((resumed / victim).read_bytes())
    content[len(content) // 2] ^= 1
    (resumed / victim).write_bytes(content)
    first = (resumed / "tokens-00000.bin").stat().st_mtime_ns
    write_shards(texts(), tokenizer, resumed, 100)
    assert contents(resumed) == contents(whole)
    assert (resumed / "tokens-00000.bin").stat().st_mtime_ns == first
