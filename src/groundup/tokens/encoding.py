"""A stream of texts -> the ids of each, in order.

    texts --batches--> encode_arrays --> ids of each text

Invariant: what waits in memory is one batch, however long the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groundup.tokens.tokenizer import Tokenizer, Tokens

BATCH_CHARACTERS = 1_000_000
BATCH_DOCUMENTS = 4096


def encode_in_order(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[int, Tokens]]:
    """(UTF-8 bytes, ids) of each text. Raises DataError on a text with lone surrogates."""
    for batch in _batches(texts):
        for text, ids in zip(batch, tokenizer.encode_arrays(batch)):
            yield len(text.encode()), ids


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
