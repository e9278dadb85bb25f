"""A stream of texts -> the ids of each, in order, made in this process or in several.

    texts --batches--> (workers) encode_arrays --> ids of a batch as one array --> ids of each text

Invariant: ids and their order do not depend on the number of workers; what waits in memory is a few batches, however
long the stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from groundup.corpus.processes import run_in_order
from groundup.errors import DataError
from groundup.tokens.tokenizer import Tokenizer, Tokens
from groundup.tokens.tokenizer_file import TokenizerFile

BATCH_CHARACTERS = 1_000_000
BATCH_DOCUMENTS = 4096


class _Encoded(NamedTuple):
    """A batch: UTF-8 bytes of each text, and the ids of all with the place where each text's begin (and the end)."""

    n_bytes: list[int]
    starts: list[int]
    ids: Tokens


def encode_in_order(texts: Iterable[str], tokenizer: Tokenizer, workers: int = 0) -> Iterator[tuple[int, Tokens]]:
    """(UTF-8 bytes, ids) of each text. `workers`: processes; 0 or 1: this one.

    Raises DataError on a text with lone surrogates, ResourceError when a worker process was killed.
    """
    batches = _batches(texts)
    encoded: Iterator[_Encoded]
    if workers < 2:
        encoded = (_encode(tokenizer, batch) for batch in batches)
    else:
        encoded = run_in_order(_encode_in_worker, batches, workers, _start_worker, (tokenizer.file,))
    for batch in encoded:
        for n_bytes, (start, stop) in zip(batch.n_bytes, pairwise(batch.starts)):
            yield n_bytes, batch.ids[start:stop]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """A bounded number of characters and texts at a time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> _Encoded:
    ids = tokenizer.encode_arrays(texts)
    starts = [0, *np.cumsum([len(part) for part in ids]).tolist()]
    return _Encoded([len(text.encode()) for text in texts], starts, np.concatenate(ids))


_of_worker: Tokenizer | None = None


def _start_worker(file: TokenizerFile) -> None:
    """In a worker: its own tokenizer, on one core."""
    global _of_worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _of_worker = Tokenizer(file, "the tokenizer")


def _encode_in_worker(texts: Sequence[str]) -> _Encoded:
    if _of_worker is None:
        raise DataError("a worker process was not started with a tokenizer; run the same command again")
    return _encode(_of_worker, texts)
