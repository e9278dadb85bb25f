"""Files of documents -> the stream of token ids of `shards.py`, byte for byte, by any number of workers.

    file of documents --encode_file, a task a file--> its ids, and (tokens, bytes of text) of each document
    ids of all files  --pack_shard, a task a shard--> tokens-00000.bin ...
    documents of all  --here, 16 bytes each---------> documents.bin, index.json

Where a file's ids lie in the stream follows from the numbers of tokens before it. A finished file or shard is not made
again after a kill. Memory of a worker: one batch of texts and one shard; of this process: counts of each file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from groundup.corpus import Engine
from groundup.corpus.closing import finish, finished
from groundup.corpus.documents import documents_of
from groundup.log import progress
from groundup.stage import fsync_file
from groundup.tokens.arrays import token_dtype, write_array
from groundup.tokens.encoding import encode_in_order
from groundup.tokens.shards import (
    DOCUMENTS_FILE,
    INDEX_FILE,
    SHARD_TOKENS,
    counts_of,
    framed,
    remove_marks,
    shard_file,
    write_index,
)
from groundup.tokens.tokenizer import Tokenizer

_IDS, _DOCUMENTS = "ids", "documents"


def write_file_shards(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    folder: Path,
    scratch: Path,
    engine: Engine,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Write the token stream of the documents of `files` into `folder`; as `shards.write_shards`, which see.

    `scratch`: folder for the ids of each file, as much disk as the shards; removed at the end.
    """
    if not (folder / INDEX_FILE).is_file():
        if not files:
            return {"documents": 0, "tokens": 0, "text_bytes": 0, "shards": 0}
        folder.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        tokenizer.save(scratch)
        tasks = [_Encoding(path, scratch, f"{number:06d}") for number, path in enumerate(files)]
        with progress(f"encode {folder.name}", len(tasks), "files") as bar:
            counts = engine.run_all(_encode_file, tasks, lambda task: bar.advance(1))
        dtype = token_dtype(tokenizer.vocab_size)
        engine.run_all(_pack_shard, list(_packings(tasks, counts, dtype, folder, shard_tokens)))
        _write_documents(tasks, counts, folder)
        sums = {key: sum(count[key] for count in counts) for key in ("documents", "tokens", "text_bytes")}
        write_index(folder, {**sums, "shards": -(-sums["tokens"] // shard_tokens)}, shard_tokens, tokenizer)
    remove_marks(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    return counts_of(folder)


@dataclass(frozen=True)
class _Encoding:
    """A file of documents, and what its ids and documents are called in the scratch folder."""

    documents: Path
    scratch: Path
    name: str

    def path(self, kind: str) -> Path:
        return self.scratch / f"{self.name}.{kind}"


def _encode_file(task: _Encoding) -> dict[str, Any]:
    """Write ids and documents of a file, unless that is done; returns its numbers of documents, tokens and bytes."""
    done = finished(task.scratch, f"{task.name}.json")
    if done:
        return done
    tokenizer = _loaded(task.scratch)
    entries: list[tuple[int, int]] = []
    with task.path(_IDS).open("wb") as file:
        for n_bytes, ids in encode_in_order((each.text for each in documents_of(task.documents)), tokenizer):
            stream = framed(ids, tokenizer)
            file.write(stream.tobytes())
            entries.append((len(stream), n_bytes))
    table = np.array(entries, dtype="<i8").reshape(-1, 2)
    table.tofile(task.path(_DOCUMENTS))
    counts = {"documents": len(table), "tokens": int(table[:, 0].sum()), "text_bytes": int(table[:, 1].sum())}
    return finish(task.scratch, f"{task.name}.json", counts, [task.path(kind).name for kind in (_IDS, _DOCUMENTS)])


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> Tokenizer:
    """A worker's own tokenizer, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return Tokenizer.load(folder)


@dataclass(frozen=True)
class _Packing:
    """A shard, and the stretches (file, first id, number of ids) that it is made of."""

    target: Path
    dtype: str
    pieces: tuple[tuple[Path, int, int], ...]


def _packings(
    tasks: Sequence[_Encoding], counts: Sequence[dict[str, Any]], dtype: str, folder: Path, shard_tokens: int
) -> Iterator[_Packing]:
    starts = [0, *accumulate(count["tokens"] for count in counts)]
    file = 0
    for number, first in enumerate(range(0, starts[-1], shard_tokens)):
        last, pieces = min(first + shard_tokens, starts[-1]), []
        while first < last:
            while starts[file + 1] <= first:
                file += 1
            stop = min(last, starts[file + 1])
            pieces.append((tasks[file].path(_IDS), first - starts[file], stop - first))
            first = stop
        yield _Packing(shard_file(folder, number), dtype, tuple(pieces))


def _pack_shard(task: _Packing) -> None:
    """Write a shard, unless it is there and intact."""
    folder, dtype, mark = task.target.parent, np.dtype(task.dtype), f"packed-{task.target.stem}.json"
    if finished(folder, mark):
        return
    read = [np.fromfile(path, dtype, count, offset=first * dtype.itemsize) for path, first, count in task.pieces]
    write_array(task.target, np.concatenate(read))
    finish(folder, mark, {}, [task.target.name])


def _write_documents(tasks: Sequence[_Encoding], counts: Sequence[dict[str, Any]], folder: Path) -> None:
    """The index of all documents: where each begins in the stream, and its bytes."""
    before = 0
    temporary = folder / f"{DOCUMENTS_FILE}.tmp"
    with temporary.open("wb") as file:
        for task, count in zip(tasks, counts):
            table = np.fromfile(task.path(_DOCUMENTS), dtype="<i8").reshape(-1, 2)
            table[:, 0] = before + np.cumsum(table[:, 0]) - table[:, 0]
            table.tofile(file)
            before += count["tokens"]
    fsync_file(temporary)
    os.replace(temporary, folder / DOCUMENTS_FILE)
