"""Shards made from files by workers have the bytes of those made from one stream, also after kills."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.corpus import Document, LocalEngine
from groundup.corpus.documents import LineWriter, to_line
from groundup.corpus.engines.processes import HERE
from groundup.errors import DataError
from groundup.tokens import (
    Tokenizer,
    TokenizerConfig,
    file_shards,
    train_tokenizer,
    write_file_shards,
    write_shards,
)

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Killed(Exception):
    """Stands for kill -9: nothing is tidied up."""


def stored(folder: Path, texts: list[list[str]]) -> tuple[list[Path], list[Document]]:
    """Files of documents with these texts, and the documents."""
    files, documents = [], []
    for number, of_file in enumerate(texts):
        files.append(folder / f"{number}.zst")
        with LineWriter(files[-1]) as writer:
            for row, text in enumerate(of_file):
                documents.append(Document(f"f:{row}", text, "s"))
                writer.write(to_line(documents[-1]))
    return files, documents


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


TEXTS = [[f"Document {i} of file {n} says: " + "a truth. " * (i % 5) for i in range(7 * n)] for n in (1, 0, 3, 2)]


@RELAXED
@given(st.lists(st.lists(st.text(max_size=30), max_size=4), max_size=5), st.integers(4, 60))
def test_files_give_the_bytes_of_the_stream(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    files, documents = stored(folder, texts)
    files = files if documents else []
    expected = write_shards(documents, tokenizer, folder / "stream", shard_tokens)
    made = write_file_shards(files, tokenizer, folder / "files", folder / "scratch", HERE, shard_tokens)
    assert made == expected
    assert contents(folder / "files") == contents(folder / "stream")
    assert not (folder / "scratch").exists()


def test_processes_give_the_same_bytes(tmp_path: Path) -> None:
    files, documents = stored(tmp_path, TEXTS)
    (tmp_path / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=300), [each.text for each in documents], tmp_path / "tokenizer")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    expected = write_shards(documents, tokenizer, tmp_path / "stream", 100)
    engine = LocalEngine(2)
    assert write_file_shards(files, tokenizer, tmp_path / "files", tmp_path / "scratch", engine, 100) == expected
    assert contents(tmp_path / "files") == contents(tmp_path / "stream")


def test_killed_anywhere_it_goes_on_with_what_is_finished(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, documents = stored(tmp_path, TEXTS)
    write_shards(documents, tokenizer, tmp_path / "stream", 100)
    encoded, real, calls = [], file_shards.encode_in_order, 0

    def counted(texts, tokenizer):
        encoded.append(None)
        return real(texts, tokenizer)

    monkeypatch.setattr(file_shards, "encode_in_order", counted)
    for fatal in (1, 3, 5, 8, 10, 10_000):
        calls = 0

        class Dying:
            apart = True

            def run_all(self, function, tasks, done=lambda task: None, fatal=fatal):
                nonlocal calls
                results = []
                for task in tasks:
                    calls += 1
                    if calls == fatal:
                        raise Killed
                    results.append(function(task))
                    done(task)
                return results

            def where_worth(self, amount, least):
                return self

        try:
            write_file_shards(files, tokenizer, tmp_path / "files", tmp_path / "scratch", Dying(), 100)
        except Killed:
            continue
    assert calls > 10
    assert len(encoded) == len(files)
    assert contents(tmp_path / "files") == contents(tmp_path / "stream")


def test_a_damaged_file_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    files, _ = stored(tmp_path, TEXTS)
    files[2].write_bytes(files[2].read_bytes()[:-9])
    with pytest.raises(DataError, match=r"2\.zst: damaged shard"):
        write_file_shards(files, tokenizer, tmp_path / "files", tmp_path / "scratch", HERE, 100)
